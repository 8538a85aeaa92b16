"""Where a lesson runs: on the GPU that has most room, with a torch that knows it; else on the CPU."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

CPU = torch.device("cpu")
GPU_TROUBLE = (torch.OutOfMemoryError, torch.AcceleratorError)  # after these the CPU can still do it


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
