"""Recorded ``/proc/cpuinfo`` and ``/sys/devices`` of kinds of machines."""

from pathlib import Path

import pytest

from supervisor.host import cpu

EPYC = """processor\t: 0
vendor_id\t: AuthenticAMD
model name\t: AMD EPYC  9R45
flags\t\t: fpu vme sse sse2 avx fma avx2 avx512f avx512dq avx512_bf16
bugs\t\t: sysret_ss_attrs
"""
XEON = (
    "processor: 0\nvendor_id: GenuineIntel\nflags: avx avx2 avx512f avx512_vnni avx_vnni amx_bf16 amx_tile amx_int8\n"
)
OLD_X86 = "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Celeron\nflags\t\t: fpu sse2 ssse3 sse4_2\n"
PI5 = """processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm aes crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU part\t: 0xd0b

Revision\t: d04170
Model\t\t: Raspberry Pi 5 Model B Rev 1.0
"""
RK3588 = "".join(
    f"processor\t: {number}\nFeatures\t: fp asimd asimddp{more}\nCPU implementer\t: 0x41\nCPU part\t: {part}\n\n"
    for number, (part, more) in enumerate([("0xd05", "")] * 4 + [("0xd0b", " i8mm")] * 4)
)
GRAVITON = "Features : asimd asimddp sve i8mm bf16\nCPU implementer : 0x41\nCPU part : 0xd40\n"
UNKNOWN_ARM = "Features : asimd sve2\nCPU implementer : 0x99\nCPU part : 0x001\n"


def written(folder: Path, text: str) -> Path:
    (folder / "cpuinfo").write_text(text)
    return folder / "cpuinfo"


@pytest.mark.parametrize(
    ("cpuinfo", "found"),
    [
        (EPYC, ("AVX", "AVX2", "AVX-512", "AVX-512 BF16")),
        (XEON, ("AVX", "AVX2", "AVX-VNNI", "AVX-512", "AVX-512 VNNI", "AMX-BF16", "AMX-INT8")),
        (OLD_X86, ()),
        (PI5, ("NEON", "dotprod")),
        (RK3588, ("NEON", "dotprod")),
        (GRAVITON, ("NEON", "dotprod", "i8mm", "bf16", "SVE")),
        (UNKNOWN_ARM, ("NEON", "SVE2")),
        ("processor\t: 0\nFeatures\t: half thumb neon vfpv4\n", ("NEON",)),
        ("processor\t: 0\nmodel name\t: something else\n", ()),
    ],
)
def test_vector_extensions_are_those_that_every_core_has(tmp_path: Path, cpuinfo: str, found: tuple[str, ...]) -> None:
    assert cpu.simd(written(tmp_path, cpuinfo)) == found


@pytest.mark.parametrize(
    ("cpuinfo", "name"),
    [
        (EPYC, "AMD EPYC 9R45"),
        (PI5, "Raspberry Pi 5 Model B Rev 1.0 (Cortex-A76)"),
        (RK3588, "Cortex-A55 + Cortex-A76"),
        (GRAVITON, "Neoverse-V1"),
        (UNKNOWN_ARM, "Arm 0x99/0x001"),
        ("processor\t: 0\nmodel name\t: something else\n", "something else"),
        ("", ""),
    ],
)
def test_a_processor_has_the_name_that_people_know(tmp_path: Path, cpuinfo: str, name: str) -> None:
    assert cpu.name(written(tmp_path, cpuinfo), tmp_path / "absent") == name


def test_a_board_has_its_name_from_the_device_tree(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"Radxa ROCK 5B\0")

    assert cpu.name(written(tmp_path, RK3588), tmp_path / "model") == "Radxa ROCK 5B (Cortex-A55 + Cortex-A76)"


def test_a_machine_that_says_nothing_has_no_name(tmp_path: Path) -> None:
    assert cpu.name(tmp_path / "absent", tmp_path / "absent") == ""
    assert cpu.simd(tmp_path / "absent") == ()


def system(root: Path, siblings: list[str], performance: str = "", capacity: tuple[int, ...] = ()) -> Path:
    """``/sys/devices`` of a machine: per CPU the hyper-threads of its core; an empty text: no topology."""
    for number, text in enumerate(siblings):
        topology = root / f"cpu/cpu{number}/topology"
        topology.mkdir(parents=True)
        if text:
            (topology / "thread_siblings_list").write_text(f"{text}\n")
        if capacity:
            (root / f"cpu/cpu{number}/cpu_capacity").write_text(f"{capacity[number]}\n")
    (root / "cpu/cpufreq").mkdir(parents=True)
    if performance:
        (root / "cpu_core").mkdir()
        (root / "cpu_core/cpus").write_text(performance)
    return root


EIGHT_THREADS = ["0,4", "1,5", "2,6", "3,7"] * 2
HYBRID = ["0-1", "0-1", "2-3", "2-3", "4", "5", "6", "7"]  # two fast cores of two threads, four slow ones


def every(count: int) -> frozenset[int]:
    return frozenset(range(count))


def test_hyper_threads_are_one_core(tmp_path: Path) -> None:
    assert cpu.physical_cores(every(8), None, system(tmp_path, EIGHT_THREADS)) == 4


def test_a_cpuset_leaves_the_cores_that_it_touches(tmp_path: Path) -> None:
    folder = system(tmp_path, EIGHT_THREADS)

    assert cpu.physical_cores(frozenset({0, 4}), None, folder) == 1
    assert cpu.physical_cores(frozenset({0, 1, 6}), None, folder) == 3


@pytest.mark.parametrize(("quota", "found"), [(2.5, 2), (0.5, 1), (64.0, 4), (None, 4)])
def test_a_quota_leaves_whole_cores_and_at_least_one(tmp_path: Path, quota: float | None, found: int) -> None:
    assert cpu.physical_cores(every(8), quota, system(tmp_path, EIGHT_THREADS)) == found


def test_of_fast_and_slow_cores_the_fast_ones_work(tmp_path: Path) -> None:
    folder = system(tmp_path, HYBRID, performance="0-3\n")

    assert cpu.physical_cores(every(8), None, folder) == 2
    assert cpu.physical_cores(frozenset({4, 5, 6}), None, folder) == 3, "where we may use slow ones only, they do"


def test_arm_tells_slow_cores_by_their_capacity(tmp_path: Path) -> None:
    siblings = [str(number) for number in range(8)]
    folder = system(tmp_path, siblings, capacity=(414, 414, 414, 414, 1024, 1024, 990, 990))

    assert cpu.physical_cores(every(8), None, folder) == 4


def test_a_machine_without_a_topology_has_the_cpus_that_we_may_use(tmp_path: Path) -> None:
    assert cpu.physical_cores(frozenset({0}), None, system(tmp_path, ["", "", "", ""])) == 1


def test_llama_cpp_by_itself_takes_the_whole_machine(tmp_path: Path) -> None:
    assert cpu.own_threads(system(tmp_path / "even", EIGHT_THREADS)) == 4
    assert cpu.own_threads(system(tmp_path / "mixed", HYBRID, performance="0-3")) == 2


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("0-3,8\n", {0, 1, 2, 3, 8}), ("5", {5}), ("", set()), (None, set()), ("x-y", set()), ("0-1, 4-5", {0, 1, 4, 5})],
)
def test_a_list_of_cpus_is_read(text: str | None, numbers: set[int]) -> None:
    assert cpu.cpu_list(text) == numbers
