"""detect() -> HostFacts."""

import platform
from pathlib import Path

from supervisor.host import cpu, limits
from supervisor.host.cgroups import groups
from supervisor.host.facts import HostFacts
from supervisor.host.gpu import find_gpus

SHM = Path("/dev/shm")  # noqa: S108 - asked about, never written to


def detect(data: Path) -> HostFacts:
    """Look at the machine once; ``data`` says whose disk counts."""
    total, available = limits.memory(groups("memory"))
    allowed, quota = limits.allowed_cpus(), limits.cpu_quota(groups("cpu"))
    found = find_gpus()
    return HostFacts(
        architecture=platform.machine(),
        cpu=cpu.name(),
        physical_cores=cpu.physical_cores(allowed, quota),
        usable_cpus=min(len(allowed), quota or len(allowed)),
        own_threads=cpu.own_threads(),
        memory_total=total,
        memory_available=available,
        simd=cpu.simd(),
        gpus=found.gpus,
        gpu_problem=found.problem,
        disk=limits.disk(data),
        shm=limits.disk(SHM) if SHM.is_dir() else None,
        container=Path("/.dockerenv").exists() or Path("/run/.containerenv").exists(),
    )
