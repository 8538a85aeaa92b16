"""What a container lets us use: cgroup limits on CPU and memory (v2, then v1), free disk."""

import shutil
from pathlib import Path

import psutil

from supervisor.host.facts import Disk

CGROUP = Path("/sys/fs/cgroup")


def usable_cpus(cgroup: Path = CGROUP) -> float:
    """CPUs' worth of time: the affinity mask, cut by the cgroup quota."""
    allowed = float(len(psutil.Process().cpu_affinity()))
    quota = cpu_quota(cgroup)
    return min(allowed, quota) if quota else allowed


def physical_cores(cgroup: Path = CGROUP) -> int:
    """Physical cores within the limits, at least one; hyper-threads do not help matrix products."""
    physical = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    return max(1, min(physical, int(usable_cpus(cgroup))))


def cpu_quota(cgroup: Path) -> float | None:
    if (text := read(cgroup / "cpu.max")) is not None:
        quota, period = text.split()
        return None if quota == "max" else int(quota) / int(period)
    v1 = cgroup / "cpu"
    old_quota, old_period = read(v1 / "cpu.cfs_quota_us"), read(v1 / "cpu.cfs_period_us")
    if old_quota is None or old_period is None or int(old_quota) <= 0:
        return None
    return int(old_quota) / int(old_period)


def memory(cgroup: Path = CGROUP) -> tuple[int, int]:
    """Bytes in all and bytes still available, within the cgroup limit."""
    host = psutil.virtual_memory()
    limit, used = memory_limit(cgroup)
    if limit is None or limit >= host.total:
        return host.total, host.available
    return limit, max(0, min(host.available, limit - used))


def memory_limit(cgroup: Path) -> tuple[int | None, int]:
    for limit_file, used_file in (
        (cgroup / "memory.max", cgroup / "memory.current"),
        (cgroup / "memory" / "memory.limit_in_bytes", cgroup / "memory" / "memory.usage_in_bytes"),
    ):
        limit = read(limit_file)
        if limit is not None and limit != "max":
            return int(limit), int(read(used_file) or 0)
    return None, 0


def disk(path: Path) -> Disk:
    """Space where ``path`` is, or will be once it is created."""
    there = next(place for place in (path, *path.absolute().parents) if place.exists())
    usage = shutil.disk_usage(there)
    return Disk(path=path, total=usage.total, free=usage.free)


def read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
