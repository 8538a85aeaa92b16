"""Linear maps and embeddings whose weights stay in their file, memory-mapped, quantised or not: numbers while in use.

Every matmul unpacks its matrix again, forward and backward: half to an eighth of a dense model's memory, for time that
some hundred tokens at once make small. PEFT wraps such a layer as any other linear one.
"""

import warnings
from typing import Any, cast

import numpy as np
import torch
from gguf import GGMLQuantizationType as Kind
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from supervisor.distill.dequantize import check_kind, dequantize, length, width
from supervisor.distill.gguf_read import GgufModel

VALUES = 1 << 22  # at a time, where rows must change places


class Packed(nn.Module):
    """A matrix as the file has it. ``turned``: heads whose rows it alternates, see ``gguf_model.interleave``."""

    stored: Tensor  # (rows, bytes of a row) uint8; moves with the model, its pages come from the file as they are read

    def __init__(self, stored: Tensor, kind: Kind, turned: int | None = None) -> None:
        super().__init__()
        check_kind(kind)
        self.register_buffer("stored", stored, persistent=False)
        self.kind, self.turned = kind, turned
        self.shape = (stored.shape[0], stored.shape[1] // width(kind) * length(kind))

    def values(self, dtype: torch.dtype, out: Tensor | None = None) -> Tensor:
        """(rows, columns), rows in transformers' order; in ``out``, if there is one."""
        if self.turned is None:
            return dequantize(self.stored, self.kind, dtype, out)
        if out is None:
            out = torch.empty(self.shape, dtype=dtype, device=self.stored.device)
        order = unturned(self.shape[0], self.turned).to(self.stored.device)
        step = max(1, VALUES // self.shape[1])
        for first in range(0, len(order), step):
            dequantize(self.stored[order[first : first + step]], self.kind, dtype, out[first : first + step])
        return out

    def rows(self, which: Tensor | range, dtype: torch.dtype) -> Tensor:
        """Some rows, of a matrix that is not turned: (...) int64, or a run of them, to (..., columns)."""
        if isinstance(which, range):
            return dequantize(self.stored[which.start : which.stop], self.kind, dtype)
        found = dequantize(self.stored[which.flatten()], self.kind, dtype)
        return found.view(*which.shape, self.shape[1])


def unturned(rows: int, heads: int) -> Tensor:
    """Where the file has each row that transformers wants: within a head first the even ones, then the odd ones."""
    return torch.arange(rows).view(heads, -1, 2).transpose(1, 2).flatten()


def packed_from(source: GgufModel, name: str, turned: int | None = None) -> Packed:
    """GgufError when the file stores it in a way that cannot be read."""
    tensor = source.tensors[name]
    check_kind(tensor.kind, f"{source.path}: {name}")
    return Packed(as_tensor(source.stored(tensor)), tensor.kind, turned)


def as_tensor(mapped: NDArray[np.uint8]) -> Tensor:
    """A matrix's bytes where they lie in a file: (rows, bytes of a row). Never to be written."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch cannot mark memory as read-only, and says so
        return torch.from_numpy(mapped)


class PackedLinear(nn.Linear):
    """``weight`` is empty: it only tells PEFT the device and the dtype."""

    def __init__(self, packed: Packed, dtype: torch.dtype, bias: nn.Parameter | None = None) -> None:
        nn.Module.__init__(self)  # nn.Linear would allocate the matrix
        self.out_features, self.in_features = packed.shape
        self.weight = nn.Parameter(torch.empty(0, dtype=dtype), requires_grad=False)
        self.register_parameter("bias", bias)
        self.packed = packed

    def forward(self, x: Tensor) -> Tensor:
        product = cast("Tensor", _Product.apply(x, self.packed))  # type: ignore[no-untyped-call]
        return product if self.bias is None else product + self.bias


class PackedEmbedding(nn.Embedding):
    """Rows are unpacked as they are looked up, and multiplied by ``scale`` (Gemma's)."""

    def __init__(self, packed: Packed, dtype: torch.dtype, scale: float | None = None) -> None:
        nn.Module.__init__(self)
        self.num_embeddings, self.embedding_dim = packed.shape
        self.padding_idx = self.max_norm = None
        self.weight = nn.Parameter(torch.empty(0, dtype=dtype), requires_grad=False)
        self.packed, self.scale = packed, scale

    def forward(self, ids: Tensor) -> Tensor:
        rows = self.packed.rows(ids, self.weight.dtype)
        return rows if self.scale is None else rows * torch.tensor(self.scale, dtype=rows.dtype, device=rows.device)


class _Product(torch.autograd.Function):
    """x W': the gradient goes on to ``x`` only, and W is not kept for it but unpacked a second time."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, packed: Packed) -> Tensor:  # noqa: ANN401 - torch's
        ctx.packed = packed
        return nn.functional.linear(x, packed.values(x.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        packed: Packed = ctx.packed
        return (grad.reshape(-1, packed.shape[0]) @ packed.values(grad.dtype)).view(*grad.shape[:-1], -1), None
