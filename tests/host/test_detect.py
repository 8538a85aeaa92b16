import ctypes.util
from pathlib import Path

import pytest

from supervisor.host.detect import detect, simd
from supervisor.host.gpu import gpus

X86 = """processor\t: 0
vendor_id\t: AuthenticAMD
model name\t: AMD EPYC 9R45
flags\t\t: fpu vme sse sse2 avx fma avx2 avx512f avx512dq avx512_bf16 amx_tile
bugs\t\t: sysret_ss_attrs

processor\t: 1
flags\t\t: fpu
"""
OLD_X86 = "processor\t: 0\nflags\t\t: fpu vme sse sse2 ssse3 sse4_2\n"
ARM = "processor\t: 0\nBogoMIPS\t: 243.75\nFeatures\t: fp asimd evtstrm aes crc32 atomics\nCPU part\t: 0xd0c\n"


@pytest.mark.parametrize(
    ("cpuinfo", "found"),
    [
        (X86, ("AVX", "AVX2", "AVX-512", "AVX-512 BF16")),
        (OLD_X86, ()),
        (ARM, ("NEON",)),
        ("processor\t: 0\nmodel name\t: something else\n", ()),
    ],
)
def test_vector_extensions_are_read_from_the_kernels_list(tmp_path: Path, cpuinfo: str, found: tuple[str, ...]) -> None:
    (tmp_path / "cpuinfo").write_text(cpuinfo)

    assert simd(tmp_path / "cpuinfo") == found


def test_no_list_is_no_extension(tmp_path: Path) -> None:
    assert simd(tmp_path / "absent") == ()


@pytest.mark.skipif(ctypes.util.find_library("nvidia-ml") is not None, reason="this machine has NVIDIA's driver")
def test_no_driver_is_no_gpu_and_no_error() -> None:
    assert gpus() == ()


@pytest.mark.gpu
@pytest.mark.skipif(ctypes.util.find_library("nvidia-ml") is None, reason="needs NVIDIA's driver")
def test_a_gpu_is_described() -> None:
    first = gpus()[0]

    assert first.memory_total >= first.memory_free > 0
    assert first.name
    assert first.driver


def test_this_machine_can_be_described(tmp_path: Path) -> None:
    facts = detect(tmp_path)

    assert facts.physical_cores >= 1
    assert 0 < facts.memory_available <= facts.memory_total
    assert facts.disk.path == tmp_path
