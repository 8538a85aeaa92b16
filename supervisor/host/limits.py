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
    """The limit and what of it is used for good, in bytes."""
    for folder, limit_name, used_name, idle_name in (
        (cgroup, "memory.max", "memory.current", "inactive_file"),
        (cgroup / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        limit = read(folder / limit_name)
        if limit is not None and limit != "max":
            used = int(read(folder / used_name) or 0)
            return int(limit), max(0, used - idle_cache(folder / "memory.stat", idle_name))
    return None, 0


def idle_cache(stat: Path, name: str) -> int:
    """Bytes of cached files that the kernel drops first: a model that was read counts as used, but hinders nobody."""
    counts = dict(line.split() for line in (read(stat) or "").splitlines())
    return int(counts.get(name, 0))


def disk(path: Path) -> Disk:
    """Space where ``path`` is, or will be once it is created."""
    usage = shutil.disk_usage(nearest(path))
    return Disk(path=path, total=usage.total, free=usage.free)


def nearest(path: Path) -> Path:
    """The path itself, or the nearest folder above it that is there and that we may look at."""
    return next(place for place in (path, *path.absolute().parents) if visible(place))


def visible(path: Path) -> bool:
    try:
        path.stat()
    except OSError:
        return False
    return True


def read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
