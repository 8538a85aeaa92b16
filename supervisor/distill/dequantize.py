"""Quantised blocks of a GGUF to numbers, in torch: for every matmul of a packed model, so in few passes over memory.

Layouts are ggml's (``ggml-common.h``); values are those of ``gguf.quants.dequantize``, computed in float32 and rounded
once. On a CPU compiled code does it in a single pass (``fast/unpack.cpp``), where there is some. Else a pass works on
about as many values as a processor's cache holds, and on eight packed bytes as one int64.
"""

from collections.abc import Callable

import gguf
import torch
from gguf import GGMLQuantizationType as Kind
from torch import Tensor

from supervisor.distill.fast.kernels import compiled
from supervisor.errors import GgufError

VALUES = 1 << 19  # at a time and thread
VALUES_ON_GPU = 1 << 22
LOW = 0x0F0F0F0F0F0F0F0F  # the lower four bits of eight bytes
ONES, THREES = 0x0101010101010101, 0x0303030303030303
COMPILED = {Kind.Q8_0, Kind.Q4_0, Kind.Q4_K, Kind.Q5_K, Kind.Q6_K}
PLAIN = {Kind.F32: torch.float32, Kind.BF16: torch.bfloat16}


def dequantize(blocks: Tensor, kind: Kind, dtype: torch.dtype, out: Tensor | None = None) -> Tensor:
    """(rows, bytes of a row) uint8 to (rows, columns) in ``dtype``, on the device of ``blocks``; both contiguous.

    Scratch memory: two megabytes a thread, 32 on a GPU. GgufError for a kind that is not known.
    """
    check_kind(kind)
    if out is None:
        out = torch.empty(len(blocks), columns_of(blocks, kind), dtype=dtype, device=blocks.device)
    if kind in PLAIN:
        return out.copy_(blocks.view(PLAIN[kind]))
    packed, values = blocks.view(-1, width(kind)), out.view(-1, length(kind))
    if kind in COMPILED and (call := compiled(out)):
        call(f"unpack_{kind.name.lower()}", packed, len(packed), values)
        return out
    step = (VALUES_ON_GPU if blocks.is_cuda else VALUES * torch.get_num_threads()) // length(kind)
    # One scratch for all: the pages of a fresh one cost as much as the arithmetic.
    scratch = torch.empty(min(step, len(packed)), length(kind), device=blocks.device)
    for first in range(0, len(packed), step):
        part = values[first : first + step]
        numbers = part if out.dtype == torch.float32 else scratch[: len(part)]
        UNPACKED[kind](packed[first : first + step], numbers)
        if numbers is not part:
            part.copy_(numbers)
    return out


def check_kind(kind: Kind, what: str = "this tensor") -> None:
    if not is_known(kind):
        known = ", ".join(one.name for one in (*PLAIN, *UNPACKED))
        raise GgufError(f"{what} is stored as {kind.name}, which cannot be read; lessons know {known}")


def is_known(kind: Kind) -> bool:
    return kind in PLAIN or kind in UNPACKED


def columns_of(blocks: Tensor, kind: Kind) -> int:
    return blocks.shape[1] // width(kind) * length(kind)


def length(kind: Kind) -> int:
    """Values of a block."""
    return int(gguf.GGML_QUANT_SIZES[kind][0])


def width(kind: Kind) -> int:
    """Bytes of a block."""
    return int(gguf.GGML_QUANT_SIZES[kind][1])


def copied(strided: Tensor) -> Tensor:
    """In one piece, also where a single row already seems to be."""
    return strided.clone(memory_format=torch.contiguous_format)


def f16(packed: Tensor, out: Tensor) -> None:
    """By way of float32: torch goes straight from one half precision to the other at a quarter of the speed."""
    out.copy_(packed.view(torch.float16))


def q8_0(packed: Tensor, out: Tensor) -> None:
    """34 bytes (scale f16, 32 int8) to 32 values."""
    out.copy_(packed.view(torch.int8)[:, 2:])
    out.mul_(packed.view(torch.float16)[:, :1].float())


def q4_0(packed: Tensor, out: Tensor) -> None:
    """18 bytes (scale f16, 16 low and high halves) to 32 values: 16 low ones, 16 high ones, less 8."""
    halves = copied(packed.view(torch.int16)[:, 1:]).view(torch.int64)  # (N, 2)
    low, high = out.view(-1, 2, 16).unbind(1)
    low.copy_((halves & LOW).view(torch.int8).sub_(8))
    high.copy_(((halves >> 4) & LOW).view(torch.int8).sub_(8))
    out.mul_(packed.view(torch.float16)[:, :1].float())


def q4_k(packed: Tensor, out: Tensor) -> None:
    """144 bytes (2 x f16, 12 scales and minima, 128 halves) to 256 values: 32 low ones, 32 high ones, four times."""
    halves = packed.view(torch.int64)[:, 2:]  # (N, 16)
    low, high = out.view(-1, 4, 2, 32).unbind(2)  # (N, 4, 32)
    low.copy_((halves & LOW).view(torch.uint8).view(low.shape))
    high.copy_(((halves >> 4) & LOW).view(torch.uint8).view(high.shape))
    stretch(out, packed)


def q5_k(packed: Tensor, out: Tensor) -> None:
    """176 bytes: as Q4_K, with 32 bytes of fifth bits before the halves; bit g of byte i is for value 32 g + i."""
    words = packed.view(torch.int64)
    halves = words[:, 6:].view(-1, 4, 4)
    fifth = words[:, None, 2:6] >> torch.arange(0, 8, 2, device=out.device)[:, None]  # (N, 4, 4): of the low ones
    low, high = out.view(-1, 4, 2, 32).unbind(2)
    low.copy_((halves & LOW | (fifth & ONES) << 4).view(torch.uint8))
    high.copy_(((halves >> 4) & LOW | (fifth >> 1 & ONES) << 4).view(torch.uint8))
    stretch(out, packed)


def q6_k(packed: Tensor, out: Tensor) -> None:
    """210 bytes (128 halves, 64 upper pairs of bits, 16 int8 scales, scale f16) to 256 values in 16 groups, less 32."""
    words = packed.view(torch.int16)
    halves = copied(words[:, :64]).view(torch.int64).view(-1, 2, 2, 4)
    upper = copied(words[:, 64:96]).view(torch.int64).view(-1, 2, 1, 4)
    upper = upper >> torch.arange(0, 4, 2, device=out.device)[:, None]  # (N, 2, 2, 4): of the low ones
    low, high = out.view(-1, 2, 2, 2, 32).unbind(2)  # (N, 2, 2, 32)
    low.copy_((halves & LOW | (upper & THREES) << 4).view(torch.int8).sub_(32))
    high.copy_(((halves >> 4) & LOW | (upper >> 4 & THREES) << 4).view(torch.int8).sub_(32))
    scale = packed.view(torch.float16)[:, 104:].float() * packed.view(torch.int8)[:, 192:208]  # (N, 16)
    out.view(-1, 16).mul_(scale.view(-1, 1))


def stretch(values: Tensor, packed: Tensor) -> None:
    """Q4_K and Q5_K: each of 8 groups of 32 has a scale and a minimum of six bits, packed by four in three int32."""
    words = packed.view(torch.int32)[:, 1:4].t().contiguous()  # (3, N): of scales, of minima, upper halves of both
    upper = (words[:2] >> 2).bitwise_and_(0x30303030)
    upper[0] |= words[2] & 0x0F0F0F0F
    upper[1] |= (words[2] >> 4) & 0x0F0F0F0F
    bits = torch.stack([words[:2] & 0x3F3F3F3F, upper], dim=2).view(torch.uint8)  # (2, N, 8)
    scale, least = packed.view(torch.float16)[:, :2].t().contiguous().float().unsqueeze(2) * bits
    values.view(-1, 32).mul_(scale.view(-1, 1)).sub_(least.view(-1, 1))


UNPACKED: dict[Kind, Callable[[Tensor, Tensor], None]] = {
    Kind.F16: f16,
    Kind.Q8_0: q8_0,
    Kind.Q4_0: q4_0,
    Kind.Q4_K: q4_k,
    Kind.Q5_K: q5_k,
    Kind.Q6_K: q6_k,
}
