"""Linear maps of the frozen base, several of one input at once, with LoRA beside them; backward passes by hand.

The base's weights get no gradient, so a backward pass is one product with them, and four thin ones for LoRA's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor


@dataclass(frozen=True)
class Part:
    """LoRA of one map: y += scale * (x A') B'. ``a`` (r, inputs) and ``b`` (outputs, r) are trained, in float32."""

    a: torch.nn.Parameter
    b: torch.nn.Parameter
    scale: float


class Lora:
    """LoRA of maps that read one input, in the dtype that is computed in; made anew after each optimiser step."""

    def __init__(self, parts: Sequence[tuple[slice, Part]], dtype: torch.dtype) -> None:
        """``parts``: the outputs that each one adds to."""
        self._parts = parts
        self._a = torch.cat([part.a.detach() for _, part in parts]).to(dtype)  # (R, inputs)
        self._b = [(part.b.detach() * part.scale).to(dtype) for _, part in parts]  # (outputs, r)
        ends = list(accumulate(len(part.a) for _, part in parts))
        self._mids = [slice(end - len(part.a), end) for end, (_, part) in zip(ends, parts, strict=True)]

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        """Add to ``y`` (N, outputs); returns what the backward pass needs, (N, R)."""
        mid = self.mid(x)
        for (outs, _), mids, b in zip(self._parts, self._mids, self._b, strict=True):
            y[:, outs].addmm_(mid[:, mids], b.t())
        return mid

    def mid(self, x: Tensor) -> Tensor:
        return torch.mm(x, self._a.t())

    def backward(self, grad: Tensor, x: Tensor, mid: Tensor, into: Tensor | None) -> None:
        """Collect the gradients of A and B, and add that of ``x`` to ``into``."""
        back = torch.empty_like(mid)  # (N, R)
        for (outs, part), mids, b in zip(self._parts, self._mids, self._b, strict=True):
            torch.mm(grad[:, outs], b, out=back[:, mids])
            collect(part.b, torch.mm(grad[:, outs].t(), mid[:, mids]), part.scale)
        whole = torch.mm(back.t(), x)  # (R, inputs)
        for (_, part), mids in zip(self._parts, self._mids, strict=True):
            collect(part.a, whole[mids])
        if into is not None:
            into.addmm_(back, self._a)


def collect(parameter: torch.nn.Parameter, grad: Tensor, scale: float = 1.0) -> None:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    parameter.grad.add_(grad, alpha=scale)


@dataclass(frozen=True)
class Linear:
    """``weight()`` gives (outputs, inputs) in the dtype that is computed in, for one product."""

    weight: Callable[[], Tensor]
    bias: Tensor | None = None

    def forward(self, x: Tensor, lora: Lora | None) -> tuple[Tensor, Tensor | None]:
        """(N, inputs) -> (N, outputs); and what LoRA's backward pass needs."""
        weight = self.weight().t()
        y = torch.mm(x, weight) if self.bias is None else torch.addmm(self.bias, x, weight)
        return y, None if lora is None else lora.add(x, y)

    def backward(self, grad: Tensor, x: Tensor, mid: Tensor | None, lora: Lora | None) -> Tensor:
        """The gradient of ``x``; LoRA's are collected."""
        back = torch.mm(grad, self.weight())
        if lora is not None and mid is not None:
            lora.backward(grad, x, mid, back)
        return back
