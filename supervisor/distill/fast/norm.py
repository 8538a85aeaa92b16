"""RMSNorm (arXiv 1910.07467) of the stream between layers, forward and backward.

In float32, as the stream is; in PyTorch's words on a few rows at a time, which stay in the processor's cache: three
times as fast on a CPU as operation after operation on all rows.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from supervisor.distill.fast.kernels import compiled

CACHED = 1 << 17  # float32 values that are worked on at a time: half a megabyte
CACHED_ON_GPU = 1 << 26


def portions(rows: Tensor, scratch: int) -> Iterator[tuple[slice, list[Tensor]]]:
    """Runs of rows that are small enough, each with float32 tensors of its size to work in, always the same memory."""
    step = max(1, (CACHED_ON_GPU if rows.is_cuda else CACHED) // rows[0].numel())
    space = torch.empty(scratch, min(step, len(rows)), *rows.shape[1:], device=rows.device)
    for first in range(0, len(rows), step):
        yield slice(first, first + step), list(space[:, : len(rows) - first])


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x (N, H) float32, weight (H,) -> (N, H), in the dtype of ``weight``."""
    out = torch.empty_like(x, dtype=weight.dtype)
    if call := compiled(weight):
        call("rms_norm", x, None, weight, eps, *x.shape, None, out)
        return out
    for some, (values,) in portions(x, 1):
        values.copy_(x[some])
        out[some] = values.mul_(inverse_length(values, eps)).mul_(weight)
    return out


def add_and_norm(x: Tensor, added: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """x + added, float32, and its norm. ``added`` is in the dtype of ``weight``."""
    if added is None:
        return x, rms_norm(x, weight, eps)
    if call := compiled(weight):
        both, out = torch.empty_like(x), torch.empty_like(added)
        call("rms_norm", x, added, weight, eps, *x.shape, both, out)
        return both, out
    return x + added, rms_norm(x + added, weight, eps)


def rms_norm_backward(grad: Tensor, x: Tensor, weight: Tensor, eps: float, onto: Tensor) -> Tensor:
    """Add the gradient of ``x`` to ``onto``, both (N, H) float32; returns the sum in the dtype of the result's."""
    if call := compiled(grad):
        rounded = None if grad.dtype == onto.dtype else torch.empty_like(grad)
        call("rms_norm_backward", grad, x, weight, eps, *x.shape, onto, rounded)
        return onto if rounded is None else rounded
    for some, (values, ahead) in portions(x, 2):
        values.copy_(x[some])
        ahead.copy_(grad[some]).mul_(weight)
        onto[some] += through_length(ahead, values, inverse_length(values, eps))
    return onto.to(grad.dtype)


def inverse_length(values: Tensor, eps: float) -> Tensor:
    """One over the root of the mean square: (…, D) float32 -> (…, 1)."""
    length: Tensor = torch.linalg.vector_norm(values, dim=-1, keepdim=True)
    return length.square_().div_(values.shape[-1]).add_(eps).rsqrt_()


def through_length(ahead: Tensor, values: Tensor, scale: Tensor) -> Tensor:
    """The gradient of ``values`` from that of ``values * scale``, in the place of ``ahead``; overwrites ``values``."""
    share: Tensor = torch.linalg.vecdot(ahead, values)[..., None]
    share *= scale.square() / -values.shape[-1]
    return ahead.add_(values.mul_(share)).mul_(scale)
