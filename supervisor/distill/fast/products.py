"""Attention as matrix products with a softmax between them, which on a CPU beats PyTorch's fused kernel.

What a node sees is a few runs of rows, and each run has products of its own, so that nothing is put together. The
backward pass is FlashAttention's (arXiv 2205.14135, algorithm 4): with the logarithm of each softmax's sum (lse) at
hand a weight is one exponential, and no score's gradient depends on another. Its scores stand keys by queries: four of
five products then read matrices as they lie, which takes half the time. Shapes: see attention.py.
"""

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from supervisor.distill.fast.kernels import compiled
from supervisor.distill.fast.place import of_node, of_rows
from supervisor.distill.fast.tree import Tree


def attend(q: Tensor, k: Tensor, v: Tensor, tree: Tree) -> tuple[Tensor, Tensor]:
    """Returns (N, Hk*G, D), row after row, and lse (N, Hk*G), float32, which lies by node as ``q`` does."""
    key_heads, scale = len(k), q.shape[-1] ** -0.5
    out, lse = torch.empty_like(q), torch.empty(q.shape[:2])
    spans = ((node.end - node.begin, node.depth) for node in tree.nodes)
    room = q.new_empty(max(own * (own + before) for own, before in spans) * q.shape[1])
    for node in tree.nodes:
        queries = of_node(q, node, key_heads).flatten(1, 2)  # (Hk, T*G, D)
        sizes = [(key_heads, queries.shape[1], end - begin) for begin, end in node.seen]
        parts = laid_out(room, sizes)
        for part, (begin, end) in zip(parts, node.seen, strict=True):
            torch.bmm(queries, k[:, begin:end].contiguous().transpose(1, 2), out=part)
        softmax(parts, node.end - node.begin, scale, lse[node.begin : node.end])
        found = torch.empty_like(queries)
        for part, (begin, end) in zip(parts, node.seen, strict=True):
            multiply(part, v[:, begin:end], found, add=part is not parts[0])
        of_rows(out, node, key_heads).copy_(found.view(key_heads, node.end - node.begin, -1, q.shape[-1]))
    return out, lse


def attend_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, seen: Tensor, lse: Tensor, tree: Tree
) -> tuple[Tensor, Tensor, Tensor]:
    """``seen``, ``lse``: what ``attend`` returned."""
    key_heads, scale = len(k), q.shape[-1] ** -0.5
    dq = torch.empty_like(q)
    dk, dv = torch.zeros_like(k, dtype=torch.float32), torch.zeros_like(v, dtype=torch.float32)  # summed over branches
    means = dots(grad, seen)[..., None]  # (N, Hk*G, 1): of the weights' gradients, by the weights
    longest = max(end - begin for node in tree.nodes for begin, end in node.seen)
    rooms = q.new_empty(2, longest * q.shape[1] * max(node.end - node.begin for node in tree.nodes))
    for node in tree.nodes:
        queries, given = (part.flatten(1, 2) for part in (of_node(q, node, key_heads), of_rows(grad, node, key_heads)))
        to_q = of_node(dq, node, key_heads).flatten(1, 2)
        mean = of_rows(means, node, key_heads).contiguous()
        for begin, end in node.seen:
            size = [(key_heads, end - begin, queries.shape[1])]
            (weights,), (towards,) = (laid_out(room, size) for room in rooms)  # (Hk, S, T*G)
            torch.bmm(k[:, begin:end], queries.transpose(1, 2), out=weights)
            torch.bmm(v[:, begin:end], given.transpose(1, 2), out=towards)
            own = node.end - node.begin if end == node.end else 0
            softmax_backward(weights, towards, lse[node.begin : node.end], mean, scale, own)
            add_to(torch.bmm(weights, given), dv[:, begin:end])
            add_to(torch.bmm(towards, queries), dk[:, begin:end])
            multiply(towards.transpose(1, 2), k[:, begin:end], to_q, add=begin != node.seen[0][0])
    return dq, dk, dv


def softmax(scores: Sequence[Tensor], tokens: int, scale: float, lse: Tensor) -> None:
    """Scores (Hk, T*G, S) of each run to weights, in their place, and the logarithms of the sums to ``lse`` (Hk*T*G
    values): a token sees what is before it, and itself.
    """
    group = scores[0].shape[1] // tokens
    if call := compiled(scores[0]):
        parts = torch.tensor([[part.data_ptr(), part.shape[2]] for part in scores])
        call("softmax", parts, len(scores), scale, len(scores[0]), tokens, group, lse)
        return
    ahead = torch.ones(tokens, tokens, dtype=torch.bool).triu(1).repeat_interleave(group, 0)
    scores[-1][..., -tokens:].masked_fill_(ahead, -math.inf)
    whole = torch.cat([part.float() for part in scores], dim=-1).mul_(scale)
    sums = whole.logsumexp(-1, keepdim=True)
    lse.copy_(sums.view(lse.shape))
    weights = torch.split((whole - sums).exp_(), [part.shape[2] for part in scores], dim=-1)
    for part, values in zip(scores, weights, strict=True):
        part.copy_(values)


def softmax_backward(scores: Tensor, grad: Tensor, lse: Tensor, mean: Tensor, scale: float, own: int) -> None:
    """Scores (Hk, S, T*G) of one run to weights, and the weights' gradient to that of the scores, in their places.

    The last ``own`` keys are those of the queries' own tokens. ``lse``, ``mean``: Hk*T*G values.
    """
    sums, mean = lse.view(len(scores), 1, -1), mean.view(len(scores), 1, -1)
    if call := compiled(scores):
        before = scores.shape[1] - own
        call("softmax_backward", scores, grad, sums, mean, scale, *scores.shape, before, scores.shape[2] // (own or 1))
        return
    weights = scores.float().mul_(scale).sub_(sums).exp_()
    if own:
        hidden = torch.ones(own, own, dtype=torch.bool).tril(-1).repeat_interleave(scores.shape[2] // own, 1)
        weights[:, -own:].masked_fill_(hidden, 0)
    grad.copy_((grad.float() - mean).mul_(weights).mul_(scale))
    scores.copy_(weights)


def dots(left: Tensor, right: Tensor) -> Tensor:
    """Scalar products of the last dimension, in float32."""
    if call := compiled(left):
        out = torch.empty(left.shape[:-1])
        call("dots", left, right, out.numel(), left.shape[-1], out)
        return out
    found: Tensor = torch.linalg.vecdot(left.float(), right.float())
    return found


def add_to(part: Tensor, sums: Tensor) -> None:
    """Add (Hk, S, D) to float32 sums, of which a head's lie without gaps."""
    if call := compiled(part):
        call("accumulate", part, sums[0], sums.stride(0), len(part), part[0].numel())
    else:
        sums += part


def multiply(left: Tensor, right: Tensor, out: Tensor, *, add: bool) -> None:
    if add:
        out.baddbmm_(left, right)
    else:
        torch.bmm(left, right, out=out)


def laid_out(room: Tensor, sizes: Sequence[tuple[int, int, int]]) -> list[Tensor]:
    """Tensors of these sizes in ``room``, one behind the other."""
    ends = [0, *accumulate(map(math.prod, sizes))]
    return [room[begin:end].view(size) for (begin, end), size in zip(pairwise(ends), sizes, strict=True)]
