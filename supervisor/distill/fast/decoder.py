"""The fast engine's model: a decoder of the Llama, Mistral and Qwen kind, forward and backward by hand.

Layer: x += O attention(rotate(Q n), rotate(K n), V n), n = norm(x); x += D (silu(G m) * U m), m = norm(x).

There is no autograd in it: a layer keeps six tensors (or, to save memory, its input alone) instead of every
intermediate, what is cheap is computed again, and only what a lesson needs is computed: no gradient of a base weight,
none below the first layer's LoRA, and after the last attention only the rows of reply tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from supervisor.distill.fast.attention import Sight, attend, attend_backward, sight
from supervisor.distill.fast.head import Head
from supervisor.distill.fast.linear import Linear, Lora
from supervisor.distill.fast.norm import Turn, placed, placed_backward, rms_norm, rms_norm_backward
from supervisor.distill.fast.tree import Tree
from supervisor.distill.student import Told


@dataclass(frozen=True)
class Shape:
    """What a decoder of this kind is made of."""

    layers: int
    hidden: int
    heads: int
    key_heads: int
    width: int  # of one head
    inner: int  # of the feed-forward part
    vocabulary: int
    eps: float


@dataclass(frozen=True)
class Layer:
    """Frozen weights of one layer; q, k and v lie fused one below the other, and so do gate and up."""

    attention_norm: Tensor
    qkv: Linear
    q_norm: Tensor | None  # (D,), Qwen3's
    k_norm: Tensor | None
    o: Linear
    mlp_norm: Tensor
    gate_up: Linear
    down: Linear


@dataclass(frozen=True)
class LayerLora:
    """A layer's trained part; None where a map has none."""

    qkv: Lora | None = None
    o: Lora | None = None
    gate_up: Lora | None = None
    down: Lora | None = None


BARE = LayerLora()


@dataclass(frozen=True)
class Context:
    """What all layers of one pass share."""

    sight: Sight
    turn: Turn
    rows: Tensor | None = None  # only these go on after the attention: in the last layer


@dataclass
class Kept:
    """What a layer's backward pass needs; N rows, of which M go on after the attention."""

    x: Tensor  # (N, H)
    qkv: Tensor  # (N, Q+2K), before norm and rotation
    qkv_mid: Tensor | None
    seen: Tensor  # (N, Q), attention's result
    o_mid: Tensor | None
    between: Tensor  # (M, H)
    gate_up: Tensor  # (M, 2F)
    gate_up_mid: Tensor | None
    down_mid: Tensor | None


@dataclass(frozen=True)
class Decoder:
    shape: Shape
    embed: Head  # looked up by token, and the head itself where both are one
    layers: Sequence[Layer]
    norm: Tensor
    head: Head
    frequencies: Tensor  # (D/2,) of the rotation
    dtype: torch.dtype

    def context(self, tree: Tree) -> Context:
        group = self.shape.heads // self.shape.key_heads
        return Context(sight(tree, group=group, dtype=self.dtype), Turn.of(tree.positions, self.frequencies))

    def read(
        self, tree: Tree, rows: Tensor, lora: Sequence[LayerLora] | None = None, told: Told = lambda _done: None
    ) -> Tensor:
        """Last hidden states (R, H), normed, at ``rows`` (R,) of the tree; nothing is kept."""
        context = self.context(tree)
        x = self.embed.rows(tree.tokens).float()
        for index, layer in enumerate(self.layers):
            x, _ = self.forward(layer, x, lora[index] if lora else BARE, self.limited(context, index, rows))
            told((index + 1) / len(self.layers))
        return rms_norm(x, self.norm, self.shape.eps)

    def limited(self, context: Context, index: int, rows: Tensor) -> Context:
        last = index == len(self.layers) - 1
        return Context(context.sight, context.turn, rows) if last else context

    def forward(self, layer: Layer, x: Tensor, lora: LayerLora, context: Context) -> tuple[Tensor, Kept]:
        """(N, H) -> (M, H)."""
        normed = rms_norm(x, layer.attention_norm, self.shape.eps)
        qkv, qkv_mid = layer.qkv.forward(normed, lora.qkv)
        seen = attend(*self.heads(layer, qkv, context), context.sight).flatten(1)  # (N, Q)
        ahead, from_x = (seen, x) if context.rows is None else (seen[context.rows], x[context.rows])
        added, o_mid = layer.o.forward(ahead, lora.o)
        between = from_x + added
        inner, gate_up_mid = layer.gate_up.forward(rms_norm(between, layer.mlp_norm, self.shape.eps), lora.gate_up)
        added, down_mid = layer.down.forward(gated(inner), lora.down)
        return between + added, Kept(x, qkv, qkv_mid, seen, o_mid, between, inner, gate_up_mid, down_mid)

    def backward(
        self, layer: Layer, grad: Tensor, kept: Kept, lora: LayerLora, context: Context, *, first: bool
    ) -> Tensor:
        """The gradient of the layer's input (N, H) from that of its output (M, H); LoRA's are collected.

        In the ``first`` layer nothing below wants it, and what is returned is not it.
        """
        eps = self.shape.eps
        gate = torch.nn.functional.silu(kept.gate_up.chunk(2, dim=-1)[0])  # (M, F)
        act = gate * kept.gate_up.chunk(2, dim=-1)[1]
        ahead = layer.down.backward(grad.to(self.dtype), act, kept.down_mid, lora.down)
        inner = gated_backward(ahead, kept.gate_up, gate)  # (M, 2F)
        normed = rms_norm(kept.between, layer.mlp_norm, eps)
        ahead = layer.gate_up.backward(inner, normed, kept.gate_up_mid, lora.gate_up)
        grad = grad + rms_norm_backward(ahead, kept.between, layer.mlp_norm, eps)  # (M, H): of ``between``
        rows = context.rows
        seen = kept.seen if rows is None else kept.seen[rows]
        ahead = layer.o.backward(grad.to(self.dtype), seen, kept.o_mid, lora.o)
        if rows is not None:
            ahead = torch.zeros_like(kept.seen).index_add_(0, rows, ahead)
            grad = torch.zeros_like(kept.x).index_add_(0, rows, grad)
        qkv = self.heads_backward(layer, ahead, kept, context)  # (N, Q+2K)
        normed = rms_norm(kept.x, layer.attention_norm, eps)
        if first:
            if lora.qkv is not None and kept.qkv_mid is not None:
                lora.qkv.backward(qkv, normed, kept.qkv_mid, None)
            return grad
        ahead = layer.qkv.backward(qkv, normed, kept.qkv_mid, lora.qkv)
        return grad + rms_norm_backward(ahead, kept.x, layer.attention_norm, eps)

    def heads(self, layer: Layer, qkv: Tensor, context: Context) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys (both normed and rotated) and values: (N, heads, D)."""
        q, k, v = self.split(qkv)
        eps = self.shape.eps
        return placed(q, context.turn, layer.q_norm, eps), placed(k, context.turn, layer.k_norm, eps), v

    def heads_backward(self, layer: Layer, grad: Tensor, kept: Kept, context: Context) -> Tensor:
        """The gradient of the fused projections, (N, Q+2K), from that of attention's result, (N, Q)."""
        q, k, _ = self.split(kept.qkv)
        back = torch.empty_like(kept.qkv)
        to_q, to_k, to_v = self.split(back)
        dq, dk, dv = attend_backward(
            self.by_head(grad), self.by_head(kept.seen), *self.heads(layer, kept.qkv, context), context.sight
        )
        placed_backward(dq, q, context.turn, layer.q_norm, self.shape.eps, out=to_q)
        placed_backward(dk, k, context.turn, layer.k_norm, self.shape.eps, out=to_k)
        to_v.copy_(dv)
        return back

    def split(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        heads, key_heads = self.shape.heads, self.shape.key_heads
        q, k, v = torch.split(self.by_head(qkv), [heads, key_heads, key_heads], dim=1)
        return q, k, v

    def by_head(self, rows: Tensor) -> Tensor:
        return rows.view(len(rows), -1, self.shape.width)


class Pass:
    """A forward pass with a gradient to come. ``spare``: only each layer's input is kept, the rest computed again."""

    def __init__(
        self, model: Decoder, lora: Sequence[LayerLora], tree: Tree, rows: Tensor, *, spare: bool, told: Told
    ) -> None:
        """``told`` hears of both passes, the way back as two thirds of the work."""
        self.model, self.lora, self.told = model, lora, told
        context = model.context(tree)
        self.contexts = [model.limited(context, index, rows) for index in range(len(model.layers))]
        self.kept: list[Kept | Tensor] = []
        x = model.embed.rows(tree.tokens).float()
        for layer, part, context in zip(model.layers, lora, self.contexts, strict=True):
            y, kept = model.forward(layer, x, part, context)
            self.kept.append(x if spare else kept)
            x = y
            told(len(self.kept) / len(model.layers) / 3)
        self.last = x
        self.hidden = rms_norm(x, model.norm, model.shape.eps)  # (R, H)

    def backward(self, grad: Tensor) -> None:
        """Collect LoRA's gradients from that of ``hidden``; what was kept is given back on the way."""
        model = self.model
        grad = rms_norm_backward(grad, self.last, model.norm, model.shape.eps)
        for index in reversed(range(len(model.layers))):
            layer, part, context = model.layers[index], self.lora[index], self.contexts[index]
            kept = self.kept.pop()
            if isinstance(kept, Tensor):
                kept = model.forward(layer, kept, part, context)[1]
            grad = model.backward(layer, grad, kept, part, context, first=index == 0)
            self.told(1 - 2 * index / len(model.layers) / 3)


def gated(gate_up: Tensor) -> Tensor:
    """silu(gate) * up: (N, 2F) -> (N, F)."""
    gate, up = gate_up.chunk(2, dim=-1)
    return torch.nn.functional.silu(gate).mul_(up)


def gated_backward(grad: Tensor, gate_up: Tensor, activated: Tensor) -> Tensor:
    """The gradient of both, (N, 2F), from that of the result and silu(gate), (N, F); overwrites ``grad``."""
    gate, up = gate_up.chunk(2, dim=-1)
    both = torch.empty_like(gate_up)
    to_gate, to_up = both.chunk(2, dim=-1)
    torch.mul(activated, grad, out=to_up)
    torch.ops.aten.silu_backward.grad_input(grad.mul_(up), gate, grad_input=to_gate)
    return both
