"""What a container lets us use: control-group limits on CPU and memory, free disk."""

import shutil
from pathlib import Path

import psutil

from supervisor.host.cgroups import number, read
from supervisor.host.facts import Disk

Groups = tuple[Path, ...]  # folders of control groups, ours and those above it


def allowed_cpus() -> frozenset[int]:
    """Numbers of the CPUs that we may run on; the kernel has cut them to the cpuset already."""
    return frozenset(psutil.Process().cpu_affinity())


def cpu_quota(groups: Groups) -> float | None:
    """CPUs' worth of time, or None without a limit: the tightest quota on the way up."""
    return min((share for share in map(quota, groups) if share is not None), default=None)


def quota(group: Path) -> float | None:
    if (both := read(group / "cpu.max")) is not None:
        ours, _, period = both.partition(" ")
        return ratio(ours, period)
    return ratio(read(group / "cpu.cfs_quota_us"), read(group / "cpu.cfs_period_us"))  # version 1


def ratio(quota_text: str | None, period_text: str | None) -> float | None:
    ours, period = number(quota_text), number(period_text)
    return ours / period if ours and period else None


def memory(groups: Groups) -> tuple[int, int]:
    """Bytes in all and bytes still available, within every limit on the way up. Swap counts for nothing."""
    host = psutil.virtual_memory()
    total, available = host.total, host.available
    for group in groups:
        limit = memory_limit(group)
        if limit is not None and limit < host.total:
            total = min(total, limit)
            available = min(available, max(0, limit - memory_used(group)))
    return total, available


def memory_limit(group: Path) -> int | None:
    """The tightest of the group's own limits; version 1 also tells of limits above that are not visible.

    Above ``memory.high`` the kernel slows a group down until it hardly runs: the same as a limit to us.
    """
    files = (read(group / name) for name in ("memory.max", "memory.high", "memory.limit_in_bytes"))
    above = statistics(group).get("hierarchical_memory_limit")
    return min((limit for limit in (*map(number, files), above) if limit is not None), default=None)


def memory_used(group: Path) -> int:
    """Bytes used for good. Cached files that the kernel drops first do not count: they hinder nobody."""
    used = number(read(group / "memory.current")) or number(read(group / "memory.usage_in_bytes")) or 0
    counts = statistics(group)
    return max(0, used - counts.get("total_inactive_file", counts.get("inactive_file", 0)))


def statistics(group: Path) -> dict[str, int]:
    pairs = (line.partition(" ") for line in (read(group / "memory.stat") or "").splitlines())
    return {name: count for name, _, text in pairs if (count := number(text)) is not None}


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
