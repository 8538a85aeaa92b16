"""How much memory a lesson may take, and whether a base model should therefore stay packed."""

from pathlib import Path

SHARE = 1.5  # of a dense model's bytes: the rest is for LoRA, its moments and what a backward pass keeps
ROOT = Path("/")
CGROUPS = (  # limit, use, and the line of memory.stat that tells what the kernel takes back when asked
    ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory.current", "inactive_file"),
    (
        "sys/fs/cgroup/memory/memory.limit_in_bytes",
        "sys/fs/cgroup/memory/memory.usage_in_bytes",
        "total_inactive_file",
    ),
)


def wants_packing(dense: int, free: int | None) -> bool:
    """Whether a model of so many bytes, dense, leaves too little of the free ones; not when that is unknown."""
    return free is not None and dense * SHARE > free


def free_memory(root: Path = ROOT) -> int | None:
    """Bytes that can still be had: the machine's, or the container's where that is less. None where nobody says."""
    known = [free for free in (machine(root), *(container(root, *paths) for paths in CGROUPS)) if free is not None]
    return min(known, default=None)


def machine(root: Path) -> int | None:
    kib = named(root / "proc/meminfo").get("MemAvailable:")
    return None if kib is None else kib * 1024


def container(root: Path, limit: str, use: str, reclaimable: str) -> int | None:
    try:
        most, used = int((root / limit).read_text()), int((root / use).read_text())
    except (OSError, ValueError):  # no such cgroup, or "max"
        return None
    return most - used + named((root / limit).with_name("memory.stat")).get(reclaimable, 0)


def named(path: Path) -> dict[str, int]:
    """Lines that begin with a name and a number."""
    try:
        lines = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdecimal()}
