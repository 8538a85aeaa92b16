"""What is done to queries and keys before they meet: RMSNorm of each head, where the model has it, and rotation.

Sources: arXiv 1910.07467 and arXiv 2104.09864, in the form that transformers has them: halves of a head are rotated.
And they are put where attention wants them. Queries lie by node: a node's rows of (N, Hk*G, D) hold (Hk, T*G, D), each
token's G heads that read one key head side by side. Keys and values lie by head, (Hk, N, D).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from supervisor.distill.fast.kernels import compiled
from supervisor.distill.fast.norm import inverse_length, portions, through_length
from supervisor.distill.fast.tree import Node, Tree


@dataclass(frozen=True)
class Turn:
    """The rotation of each row's position: cosines and sines (N, 1, D/2), float32."""

    cos: Tensor
    sin: Tensor

    @classmethod
    def of(cls, positions: Tensor, frequencies: Tensor) -> "Turn":
        """``positions`` (N,), ``frequencies`` (D/2,): the angle per position of each pair of values."""
        angles = positions[:, None, None].float() * frequencies
        return cls(angles.cos(), angles.sin())

    def apply(self, values: Tensor, some: slice, out: Tensor, *, back: bool = False) -> None:
        """Rotate ``values`` (n, heads, D), which are these rows, into ``out``; ``back`` is the inverse."""
        cos, sin = self.cos[some], self.sin[some]
        (first, second), (left, right) = values.chunk(2, dim=-1), out.chunk(2, dim=-1)
        torch.mul(first, cos, out=left).addcmul_(second, sin, value=1 if back else -1)
        torch.mul(second, cos, out=right).addcmul_(first, sin, value=-1 if back else 1)


@dataclass(frozen=True)
class Place:
    """Where the rows of one tree go, and how they are turned. ``group``: G."""

    tree: Tree
    turn: Turn
    group: int
    begins: Tensor  # (N,) first row of each row's node
    lengths: Tensor  # (N,) its rows

    @classmethod
    def of(cls, tree: Tree, frequencies: Tensor, group: int) -> "Place":
        lengths = torch.tensor([node.end - node.begin for node in tree.nodes])
        begins = torch.tensor([node.begin for node in tree.nodes])
        return cls(
            tree,
            Turn.of(tree.positions, frequencies),
            group,
            begins.repeat_interleave(lengths),
            lengths.repeat_interleave(lengths),
        )

    def split(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of (N, Hk*G + 2*Hk, D)."""
        key_heads = qkv.shape[1] // (self.group + 2)
        q, k, v = torch.split(qkv, [self.group * key_heads, key_heads, key_heads], dim=1)
        return q, k, v


@dataclass(frozen=True)
class HeadNorm:
    """Weights (D,) of a model that norms its heads; else None."""

    q: Tensor | None
    k: Tensor | None
    eps: float


def placed(qkv: Tensor, norm: HeadNorm, place: Place) -> tuple[Tensor, Tensor, Tensor]:
    """(N, Hk*G + 2*Hk, D) -> queries by node (N, Hk*G, D), keys and values by head (Hk, N, D)."""
    q, k, v = place.split(qkv)
    rows, key_heads, width = k.shape
    if call := compiled(qkv):
        to_q, to_k, to_v = (qkv.new_empty(part.numel()) for part in (q, k, v))
        sizes = (rows, q.shape[1], key_heads, width)
        turn = place.turn
        where = (place.begins, place.lengths)
        call("place", qkv, norm.q, norm.k, norm.eps, turn.cos, turn.sin, *sizes, *where, to_q, to_k, to_v)
        return to_q.view(q.shape), to_k.view(key_heads, rows, width), to_v.view(key_heads, rows, width)
    by_node = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    turned = _placed(q, place.turn, norm.q, norm.eps)
    for node in place.tree.nodes:
        of_node(by_node, node, key_heads).copy_(of_rows(turned, node, key_heads))
    k = _placed(k, place.turn, norm.k, norm.eps)
    return by_node, k.transpose(0, 1).contiguous(), v.transpose(0, 1).contiguous()


def placed_backward(dq: Tensor, dk: Tensor, dv: Tensor, qkv: Tensor, norm: HeadNorm, place: Place) -> Tensor:
    """The gradient of ``qkv`` from those of its parts as ``placed`` returns them, ``dk`` and ``dv`` in float32."""
    out = torch.empty_like(qkv)
    key_heads, rows, width = dk.shape
    if call := compiled(qkv):
        sizes = (rows, dq.shape[1], key_heads, width)
        turn = place.turn
        where = (place.begins, place.lengths)
        call("place_backward", dq, dk, dv, qkv, norm.q, norm.k, norm.eps, turn.cos, turn.sin, *sizes, *where, out)
        return out
    (q, k, _), (to_q, to_k, to_v) = place.split(qkv), place.split(out)
    ahead = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    for node in place.tree.nodes:
        of_rows(ahead, node, key_heads).copy_(of_node(dq, node, key_heads))
    _placed_backward(ahead, q, place.turn, norm.q, norm.eps, out=to_q)
    _placed_backward(dk.transpose(0, 1), k, place.turn, norm.k, norm.eps, out=to_k)
    to_v.copy_(dv.transpose(0, 1))
    return out


def of_node(rows: Tensor, node: Node, key_heads: int) -> Tensor:
    """A node's part (Hk, T, G, D), without gaps, of rows (N, Hk*G, D) that lie by node."""
    own = rows[node.begin : node.end]
    return own.view(key_heads, len(own), -1, own.shape[-1])


def of_rows(rows: Tensor, node: Node, key_heads: int) -> Tensor:
    """The same of rows that lie one after the other."""
    own = rows[node.begin : node.end]
    return own.view(len(own), key_heads, -1, own.shape[-1]).transpose(0, 1)


def _placed(heads: Tensor, turn: Turn, weight: Tensor | None, eps: float) -> Tensor:
    """Each head normed, if there is a weight (D,), and rotated: (N, heads, D) -> (N, heads, D)."""
    out = torch.empty(heads.shape, dtype=heads.dtype, device=heads.device)
    for some, (values, turned) in portions(heads, 2):
        values.copy_(heads[some])
        if weight is not None:
            values.mul_(inverse_length(values, eps)).mul_(weight)
        turn.apply(values, some, turned)
        out[some] = turned
    return out


def _placed_backward(grad: Tensor, heads: Tensor, turn: Turn, weight: Tensor | None, eps: float, out: Tensor) -> None:
    """Write the gradient of ``heads`` from that of the result, all (N, heads, D), to ``out``."""
    for some, (values, ahead) in portions(heads, 2):
        values.copy_(grad[some])
        turn.apply(values, some, ahead, back=True)
        if weight is not None:
            values.copy_(heads[some])
            through_length(ahead.mul_(weight), values, inverse_length(values, eps))
        out[some] = ahead
