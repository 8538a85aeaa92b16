"""The compiled half of the fast engine: its C++ files, where they were built for this processor.

Without it the same is done in PyTorch's words, as on a GPU: a lesson is slower then, and differs by rounding.
"""

import ctypes
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

DTYPES = torch.float32, torch.bfloat16
FOLDER = Path(__file__).parent
AVX512 = ("avx512_f", "avx512_bw", "avx512_cd", "avx512_dq", "avx512_vl", "fma3")
TILES, PAIRS, LANES = "x86-64-amx", "x86-64-bf16", "x86-64-v4"
FLASH = {torch.bfloat16: (TILES, PAIRS), torch.float32: (TILES, PAIRS, LANES)}  # have flash.cpp too
NEEDS = {  # what each was built for, in PyTorch's names of a processor's abilities; the quickest first
    TILES: (*AVX512, "avx512_bf16", "amx_tile", "amx_bf16"),
    PAIRS: (*AVX512, "avx512_bf16"),
    LANES: AVX512,
    "x86-64-v3": ("avx2", "fma3", "f16c", "bmi2", "lzcnt"),
    "armv8-a": ("neon",),
}

Argument = Tensor | float | int | None
Call = Callable[..., None]


def compiled(values: Tensor) -> Call | None:
    """``call(name, *arguments)`` for functions of tensors of this dtype where this one lies; None: there are none."""
    return library(values.dtype) if values.device.type == "cpu" else None


@cache
def library(dtype: torch.dtype) -> Call | None:
    name = kind()
    if name is None or dtype not in DTYPES:
        return None
    functions = ctypes.CDLL(str(path(name, dtype)))

    def call(function: str, *arguments: Argument) -> None:
        functions[function](*map(passed, arguments))

    return call


def kind() -> str | None:
    """Which build runs here."""
    able = torch.cpu.get_capabilities()
    usable = (name for name, needs in NEEDS.items() if all(able.get(need) for need in needs))
    there = (name for name in usable if all(path(name, dtype).exists() for dtype in DTYPES))
    return next((name for name in there if name != TILES or tiles_allowed()), None)


def tiles_allowed() -> bool:
    """Linux lets a process use tiles when it asks: arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)."""
    return int(ctypes.CDLL(None).syscall(158, 0x1023, 18)) == 0


def path(name: str, dtype: torch.dtype) -> Path:
    return FOLDER / f"kernels-{name}-{str(dtype).removeprefix('torch.')}.so"


def passed(argument: Argument) -> ctypes.c_void_p | ctypes.c_float | ctypes.c_int64 | None:
    """As C wants it. Tensors must lie in memory without gaps."""
    if isinstance(argument, Tensor):
        assert argument.is_contiguous()
        return ctypes.c_void_p(argument.data_ptr())
    if isinstance(argument, float):
        return ctypes.c_float(argument)
    return None if argument is None else ctypes.c_int64(argument)
