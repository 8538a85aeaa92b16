"""The processor: its cores, its vector extensions, its name."""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import psutil

from supervisor.host.cgroups import number, read

SYSTEM = Path("/sys/devices")
INFO = Path("/proc/cpuinfo")
TREE = Path("/proc/device-tree/model")

SIMD = {  # the kernel's name: ours. Hwcaps of arm64 and of arm, flags of x86
    "avx": "AVX",
    "avx2": "AVX2",
    "avx_vnni": "AVX-VNNI",
    "avx512f": "AVX-512",
    "avx512_vnni": "AVX-512 VNNI",
    "avx512_bf16": "AVX-512 BF16",
    "amx_bf16": "AMX-BF16",
    "amx_int8": "AMX-INT8",
    "neon": "NEON",
    "asimd": "NEON",
    "asimddp": "dotprod",
    "i8mm": "i8mm",
    "bf16": "bf16",
    "sve": "SVE",
    "sve2": "SVE2",
}

ARM = {  # (implementer, part): name, from Arm's and the makers' manuals
    ("0x41", "0xd03"): "Cortex-A53",
    ("0x41", "0xd04"): "Cortex-A35",
    ("0x41", "0xd05"): "Cortex-A55",
    ("0x41", "0xd07"): "Cortex-A57",
    ("0x41", "0xd08"): "Cortex-A72",
    ("0x41", "0xd09"): "Cortex-A73",
    ("0x41", "0xd0a"): "Cortex-A75",
    ("0x41", "0xd0b"): "Cortex-A76",
    ("0x41", "0xd0c"): "Neoverse-N1",
    ("0x41", "0xd0d"): "Cortex-A77",
    ("0x41", "0xd40"): "Neoverse-V1",
    ("0x41", "0xd41"): "Cortex-A78",
    ("0x41", "0xd42"): "Cortex-A78AE",
    ("0x41", "0xd44"): "Cortex-X1",
    ("0x41", "0xd46"): "Cortex-A510",
    ("0x41", "0xd47"): "Cortex-A710",
    ("0x41", "0xd49"): "Neoverse-N2",
    ("0x41", "0xd4f"): "Neoverse-V2",
    ("0x41", "0xd80"): "Cortex-A520",
    ("0x41", "0xd81"): "Cortex-A720",
    ("0x41", "0xd82"): "Cortex-X4",
    ("0x41", "0xd83"): "Neoverse-V3AE",
    ("0x41", "0xd84"): "Neoverse-V3",
    ("0x41", "0xd85"): "Cortex-X925",
    ("0x41", "0xd87"): "Cortex-A725",
    ("0x41", "0xd8e"): "Neoverse-N3",
    ("0xc0", "0xac3"): "Ampere-1",
    ("0xc0", "0xac4"): "Ampere-1A",
    ("0x4e", "0x004"): "Carmel",
}


def physical_cores(allowed: frozenset[int], quota: float | None, system: Path = SYSTEM) -> int:
    """Cores that help matrix products, at least one: no hyper-threads, no slow cores beside fast ones.

    With both kinds at work the fast ones wait for the slow ones at the end of every product.
    """
    found = cores(allowed & fast(system) or allowed, system)
    whole = int(quota) if quota else found
    return max(1, min(found, whole))


def own_threads(system: Path = SYSTEM) -> int:
    """What llama.cpp, and so Ollama, takes by itself: cores of the whole machine, only fast ones on x86."""
    present = frozenset(int(path.name[3:]) for path in system.glob("cpu/cpu[0-9]*"))
    everywhere = present or frozenset(range(psutil.cpu_count() or 1))
    performance = cpu_list(read(system / "cpu_core/cpus"))
    return cores(everywhere & performance or everywhere, system)


def cores(cpus: frozenset[int], system: Path) -> int:
    """How many cores these CPUs are. Without a topology the kernel's list of processors has to do."""
    siblings = {sibling_set(system / f"cpu/cpu{cpu}/topology") for cpu in cpus} - {None}
    if siblings:
        return len(siblings)
    return min(psutil.cpu_count(logical=False) or len(cpus), len(cpus))


def sibling_set(topology: Path) -> str | None:
    """Equal for the hyper-threads of one core; the older name first, newer kernels have both."""
    return read(topology / "thread_siblings_list") or read(topology / "core_cpus_list")


def fast(system: Path) -> frozenset[int]:
    """The fast CPUs of a machine that has fast and slow ones, and all of any other; empty: nobody knows.

    x86 names them. Arm gives each a capacity: a core of less than half the best one's is a slow one.
    """
    if performance := cpu_list(read(system / "cpu_core/cpus")):
        return performance
    folders = list(system.glob("cpu/cpu[0-9]*"))
    capacity = {int(path.name[3:]): number(read(path / "cpu_capacity")) or 0 for path in folders}
    best = max(capacity.values(), default=0)
    return frozenset(cpu for cpu, own in capacity.items() if 2 * own >= best)


def cpu_list(text: str | None) -> frozenset[int]:
    """``0-3,8`` as numbers."""
    found: set[int] = set()
    for part in (text or "").split(","):
        first, _, last = part.strip().partition("-")
        if (low := number(first)) is not None:
            found.update(range(low, (number(last) or low) + 1))
    return frozenset(found)


def simd(info: Path = INFO) -> tuple[str, ...]:
    """Vector extensions that every core has (x86 calls the line ``flags``, Arm ``Features``)."""
    lines = [set(value.split()) for key, value in entries(info) if key in {"flags", "Features"}]
    present = set.intersection(*lines) if lines else set()
    return tuple(dict.fromkeys(label for flag, label in SIMD.items() if flag in present))


def name(info: Path = INFO, tree: Path = TREE) -> str:
    """What is printed on it, or the board's name and the kinds of cores on it; empty where nothing says."""
    found = list(entries(info))
    first = dict(reversed(found))
    board = (read(tree) or "").strip("\0 ") or first.get("Model", "")
    kinds = first.get("model name", "") if "vendor_id" in first else " + ".join(arm_cores(found))
    kinds = " ".join((kinds or first.get("model name", "")).split())
    return f"{board} ({kinds})" if board and kinds else board or kinds


def arm_cores(found: list[tuple[str, str]]) -> list[str]:
    """The kinds of cores, each once, in the kernel's order."""
    makers = [value for key, value in found if key == "CPU implementer"]
    parts = [value for key, value in found if key == "CPU part"]
    kinds = [kind for kind, _ in groupby(zip(makers, parts, strict=False))]
    return list(dict.fromkeys(ARM.get(kind, f"Arm {kind[0]}/{kind[1]}") for kind in kinds))


def entries(info: Path) -> Iterator[tuple[str, str]]:
    for line in (read(info) or "").splitlines():
        key, separator, value = line.partition(":")
        if separator:
            yield key.strip(), value.strip()
