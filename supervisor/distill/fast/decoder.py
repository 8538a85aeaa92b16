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

from supervisor.distill.fast.attention import attend, attend_backward
from supervisor.distill.fast.gate import gated, gated_backward
from supervisor.distill.fast.head import Head
from supervisor.distill.fast.linear import Linear, Lora
from supervisor.distill.fast.norm import add_and_norm, rms_norm, rms_norm_backward
from supervisor.distill.fast.place import HeadNorm, Place, placed, placed_backward
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

    @property
    def largest(self) -> int:
        """Values of the largest of a layer's matrices, those counted as one that are used as one."""
        return max((self.heads + 2 * self.key_heads) * self.width, 2 * self.inner) * self.hidden


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

    place: Place
    rows: Tensor | None = None  # only these go on after the attention: in the last layer


@dataclass
class Kept:
    """What a layer's backward pass needs; N rows, of which M go on after the attention."""

    x: Tensor  # (N, H)
    qkv: Tensor  # (N, Q+2K), before norm and rotation
    qkv_mid: Tensor | None
    seen: Tensor  # (N, Q), attention's result
    lse: Tensor | None  # see attend
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
        return Context(Place.of(tree, self.frequencies, self.shape.heads // self.shape.key_heads))

    def read(
        self, tree: Tree, rows: Tensor, lora: Sequence[LayerLora] | None = None, told: Told = lambda _done: None
    ) -> Tensor:
        """Last hidden states (R, H), normed, at ``rows`` (R,) of the tree; nothing is kept."""
        context = self.context(tree)
        x, added = self.embed.rows(tree.tokens).float(), None
        for index, layer in enumerate(self.layers):
            x, added, _ = self.forward(
                layer, x, added, lora[index] if lora else BARE, self.limited(context, index, rows)
            )
            told((index + 1) / len(self.layers))
        return add_and_norm(x, added, self.norm, self.shape.eps)[1]

    def limited(self, context: Context, index: int, rows: Tensor) -> Context:
        last = index == len(self.layers) - 1
        return Context(context.place, rows) if last else context

    def forward(
        self, layer: Layer, x: Tensor, added: Tensor | None, lora: LayerLora, context: Context
    ) -> tuple[Tensor, Tensor, Kept]:
        """x + added is the layer's input (N, H), and the first two of what it returns its output (M, H)."""
        kept, inner = self.until_down(layer, x, added, lora, context)
        added, kept.down_mid = layer.down.forward(inner, lora.down)
        return kept.between, added, kept

    def kept_again(self, layer: Layer, x: Tensor, lora: LayerLora, context: Context) -> Kept:
        """What ``forward`` kept of the layer whose input is x (N, H), without the layer's output."""
        kept, inner = self.until_down(layer, x, None, lora, context)
        kept.down_mid = None if lora.down is None else lora.down.mid(inner)
        return kept

    def until_down(
        self, layer: Layer, x: Tensor, added: Tensor | None, lora: LayerLora, context: Context
    ) -> tuple[Kept, Tensor]:
        """What is kept, but for ``down_mid``; and what goes into the last product (M, F)."""
        eps = self.shape.eps
        x, normed = add_and_norm(x, added, layer.attention_norm, eps)
        qkv, qkv_mid = layer.qkv.forward(normed, lora.qkv)
        seen, lse = self.attended(layer, qkv, context)
        ahead, from_x = (seen, x) if context.rows is None else (seen[context.rows], x[context.rows])
        added, o_mid = layer.o.forward(ahead, lora.o)
        between, normed = add_and_norm(from_x, added, layer.mlp_norm, eps)
        inner, gate_up_mid = layer.gate_up.forward(normed, lora.gate_up)
        return Kept(x, qkv, qkv_mid, seen, lse, o_mid, between, inner, gate_up_mid, None), gated(inner)

    def backward(
        self, layer: Layer, grad: Tensor, rounded: Tensor, kept: Kept, lora: LayerLora, context: Context, *, first: bool
    ) -> tuple[Tensor, Tensor]:
        """The gradient of the layer's input (N, H) from that of its output (M, H); LoRA's are collected.

        It comes and goes in float32 and ``rounded`` to what is computed in; it and what was kept are overwritten. In
        the ``first`` layer nothing below wants it, and what is returned is not it.
        """
        eps = self.shape.eps
        ahead = layer.down.backward(rounded, gated(kept.gate_up), kept.down_mid, lora.down)
        inner = gated_backward(ahead, kept.gate_up)  # (M, 2F)
        normed = rms_norm(kept.between, layer.mlp_norm, eps)
        ahead = layer.gate_up.backward(inner, normed, kept.gate_up_mid, lora.gate_up)
        rounded = rms_norm_backward(ahead, kept.between, layer.mlp_norm, eps, onto=grad)  # (M, H): of ``between``
        rows = context.rows
        seen = kept.seen if rows is None else kept.seen[rows]
        ahead = layer.o.backward(rounded, seen, kept.o_mid, lora.o)
        if rows is not None:
            ahead = torch.zeros_like(kept.seen).index_add_(0, rows, ahead)
            grad = torch.zeros_like(kept.x).index_add_(0, rows, grad)
        qkv = self.attended_backward(layer, ahead, kept, context)  # (N, Q+2K)
        normed = rms_norm(kept.x, layer.attention_norm, eps)
        if first:
            if lora.qkv is not None and kept.qkv_mid is not None:
                lora.qkv.backward(qkv, normed, kept.qkv_mid, None)
            return grad, rounded
        ahead = layer.qkv.backward(qkv, normed, kept.qkv_mid, lora.qkv)
        return grad, rms_norm_backward(ahead, kept.x, layer.attention_norm, eps, onto=grad)

    def attended(self, layer: Layer, qkv: Tensor, context: Context) -> tuple[Tensor, Tensor | None]:
        """(N, Q+2K) -> (N, Q), and what the way back needs beside it."""
        q, k, v = placed(self.by_head(qkv), self.head_norm(layer), context.place)
        seen, lse = attend(q, k, v, context.place.tree)
        return seen.flatten(1), lse

    def attended_backward(self, layer: Layer, grad: Tensor, kept: Kept, context: Context) -> Tensor:
        """(N, Q) -> (N, Q+2K)."""
        norm, place, qkv = self.head_norm(layer), context.place, self.by_head(kept.qkv)
        q, k, v = placed(qkv, norm, place)
        ways = attend_backward(self.by_head(grad), q, k, v, self.by_head(kept.seen), kept.lse, place.tree)
        return placed_backward(*ways, qkv, norm, place).flatten(1)

    def head_norm(self, layer: Layer) -> HeadNorm:
        return HeadNorm(layer.q_norm, layer.k_norm, self.shape.eps)

    def by_head(self, rows: Tensor) -> Tensor:
        return rows.view(len(rows), -1, self.shape.width)


class Pass:
    """A forward pass with a gradient to come.

    Of the first ``again`` layers only the input is kept, and the rest is computed again when its turn comes: by then
    what the later ones kept is given back.
    """

    def __init__(
        self, model: Decoder, lora: Sequence[LayerLora], tree: Tree, rows: Tensor, *, again: int, told: Told
    ) -> None:
        """``told`` hears of both passes, the way back as two thirds of the work."""
        self.model, self.lora, self.told = model, lora, told
        context = model.context(tree)
        self.contexts = [model.limited(context, index, rows) for index in range(len(model.layers))]
        self.kept: list[Kept | Tensor] = []
        x, added = model.embed.rows(tree.tokens).float(), None
        for layer, part, context in zip(model.layers, lora, self.contexts, strict=True):
            x, added, kept = model.forward(layer, x, added, part, context)
            self.kept.append(kept.x if len(self.kept) < again else kept)
            told(len(self.kept) / len(model.layers) / 3)
        self.last, self.hidden = add_and_norm(x, added, model.norm, model.shape.eps)  # (R, H)

    def backward(self, grad: Tensor) -> None:
        """Collect LoRA's gradients from that of ``hidden``; what was kept is given back on the way."""
        model = self.model
        grad, ahead = torch.zeros_like(self.last), grad.to(model.dtype)
        rounded = rms_norm_backward(ahead, self.last, model.norm, model.shape.eps, onto=grad)
        for index in reversed(range(len(model.layers))):
            layer, part, context = model.layers[index], self.lora[index], self.contexts[index]
            kept = self.kept.pop()
            if isinstance(kept, Tensor):
                kept = model.kept_again(layer, kept, part, context)
            grad, rounded = model.backward(layer, grad, rounded, kept, part, context, first=index == 0)
            self.told(1 - 2 * index / len(model.layers) / 3)
