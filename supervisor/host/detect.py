"""detect() -> HostFacts."""

import platform
from pathlib import Path

from supervisor.host import limits
from supervisor.host.facts import HostFacts
from supervisor.host.gpu import gpus

WANTED = {"avx": "AVX", "avx2": "AVX2", "avx512f": "AVX-512", "avx512_bf16": "AVX-512 BF16", "asimd": "NEON"}


def detect(data: Path) -> HostFacts:
    """Look at the machine once; ``data`` says whose disk counts."""
    total, available = limits.memory()
    return HostFacts(
        architecture=platform.machine(),
        physical_cores=limits.physical_cores(),
        usable_cpus=limits.usable_cpus(),
        memory_total=total,
        memory_available=available,
        simd=simd(Path("/proc/cpuinfo")),
        gpus=gpus(),
        disk=limits.disk(data),
        container=Path("/.dockerenv").exists() or Path("/run/.containerenv").exists(),
    )


def simd(cpuinfo: Path) -> tuple[str, ...]:
    """Vector extensions named in ``/proc/cpuinfo`` (x86 calls the line ``flags``, Arm ``Features``)."""
    for line in (limits.read(cpuinfo) or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in {"flags", "Features"}:
            present = set(value.split())
            return tuple(label for flag, label in WANTED.items() if flag in present)
    return ()
