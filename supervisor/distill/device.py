"""Where a lesson runs, on the roomiest GPU that this torch knows or else on the CPU, and how precisely it computes."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

CPU = torch.device("cpu")
GPU_TROUBLE = (torch.OutOfMemoryError, torch.AcceleratorError)  # after these the CPU can still do it
FLOAT32_BELOW = 200_000_000  # parameters, where bfloat16 is what the device computes fastest
FLOAT32_BELOW_ON_OLD_GPU = 1_000_000_000  # above, bfloat16 halves the memory and the rounding no longer matters


@dataclass(frozen=True)
class Candidate:
    """One device. ``free`` in bytes; ``capability`` as torch says it, (8, 9)."""

    index: int
    free: int
    capability: tuple[int, int]


def best_device() -> torch.device:
    if not torch.cuda.is_available():
        return CPU
    seen = (
        Candidate(index, torch.cuda.mem_get_info(index)[0], torch.cuda.get_device_capability(index))
        for index in range(torch.cuda.device_count())
    )
    return roomiest(seen, torch.cuda.get_arch_list())


def roomiest(candidates: Iterable[Candidate], kernels: Sequence[str]) -> torch.device:
    """``kernels``: what this torch was built for, such as "sm_75"; newer devices than those run what older ones do."""
    oldest = min((int(number[1]) for name in kernels if (number := re.match(r"sm_(\d+)", name))), default=0)
    able = [one for one in candidates if 10 * one.capability[0] + one.capability[1] >= oldest]
    return torch.device("cuda", max(able, key=lambda one: one.free).index) if able else CPU


def name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU"


def precision(parameters: int, device: torch.device) -> torch.dtype:
    """Of the base's weights in computations.

    A CPU that does not know bfloat16 does not compute with it, however large the model: PyTorch's products then run at
    17 GFLOP/s a core, backward at 1, where float32 reaches 100. Memory is saved by leaving weights packed instead.
    """
    quick = quick_bfloat16(device)
    if device.type == "cpu" and not quick:
        return torch.float32
    return torch.float32 if parameters < (FLOAT32_BELOW if quick else FLOAT32_BELOW_ON_OLD_GPU) else torch.bfloat16


def compute_with(threads: int) -> None:
    """So many threads, and the same results in every process.

    MKL's vector functions (exp, cos and so on) set themselves up in the first call. Where two threads made that at
    once, some last bits came out differently, in about one process of ten, and then every byte of the adapter did.
    """
    torch.set_num_threads(threads)
    torch.zeros(8).exp()  # so few that one thread makes the call


def multiply_float32_quickly() -> None:
    """Let oneDNN multiply float32 matrices, where it is exact.

    By default PyTorch has MKL do it, at half the speed on AMD's processors. The word that brings oneDNN in allows TF32;
    the processors that compute that, and so would lose digits, are found out by a product.
    """
    products: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]  # torch's stubs lack it
    products.fp32_precision = "ieee"
    probe = torch.linspace(1, 2, 4096).view(64, 64)
    exact = probe @ probe
    products.fp32_precision = "tf32"
    if not torch.allclose(probe @ probe, exact, rtol=2e-6):
        products.fp32_precision = "ieee"


def quick_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 matrices faster than float32 ones."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    able = torch.cpu.get_capabilities()
    return any(able.get(name) for name in ("amx_bf16", "avx512_bf16", "bf16"))  # the last one: ARM's
