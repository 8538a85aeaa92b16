"""Attention over a packed tree, forward and backward, as plain matrix products with a softmax between them.

On a CPU these beat PyTorch's fused kernel two to four times in the backward pass, and only they share a prefix among
branches. Heads are grouped (GQA): the G query heads that read one key head are rows of one product. Shapes: T tokens of
a node see S, its ancestors' and their own.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from supervisor.distill.fast.kernels import compiled
from supervisor.distill.fast.place import of_node, of_rows
from supervisor.distill.fast.tree import Node, Tree


def attend(q: Tensor, k: Tensor, v: Tensor, tree: Tree) -> Tensor:
    """q (N, Hk*G, D), k, v (Hk, N, D), as ``place.placed`` returns them; returns (N, Hk*G, D), row after row."""
    out = torch.empty_like(q)
    for node in tree.nodes:
        to = of_rows(out, node, len(k))
        to.copy_(torch.bmm(_weights(q, _seen(k, node), node), _seen(v, node)).view(to.shape))
    return out


def attend_backward(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, tree: Tree) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k, v, the last two in float32, from that of the result; the weights are computed again."""
    dq = torch.empty_like(q)
    dk, dv = torch.zeros_like(k, dtype=torch.float32), torch.zeros_like(v, dtype=torch.float32)  # summed over branches
    for node in tree.nodes:
        given = of_rows(grad, node, len(k)).flatten(1, 2)  # (Hk, T*G, D)
        queries, keys = of_node(q, node, len(k)).flatten(1, 2), _seen(k, node)
        weights = _weights(q, keys, node)
        _add(torch.bmm(weights.transpose(1, 2), given), node, dv)
        towards = torch.bmm(given, _seen(v, node).transpose(1, 2))  # (Hk, T*G, S): gradient of the weights
        softmax_backward(towards, weights, q.shape[-1] ** -0.5, node)
        torch.bmm(towards, keys, out=of_node(dq, node, len(k)).flatten(1, 2))
        _add(torch.bmm(towards.transpose(1, 2), queries), node, dk)
    return dq, dk, dv


def softmax(scores: Tensor, scale: float, node: Node) -> None:
    """Scores (Hk, T*G, S) to weights, in place: a token sees what is before it, and itself."""
    tokens = node.end - node.begin
    if call := compiled(scores):
        call("softmax", scores, scale, len(scores), tokens, scores.shape[1] // tokens, node.depth)
        return
    ahead = torch.ones(tokens, tokens, dtype=torch.bool, device=scores.device).triu(1)
    scores[..., node.depth :].masked_fill_(ahead.repeat_interleave(scores.shape[1] // tokens, 0), -math.inf)
    scores.copy_(torch.softmax(scores.float().mul_(scale), dim=-1))


def softmax_backward(grad: Tensor, weights: Tensor, scale: float, node: Node) -> None:
    """The gradient of the scores from that of the weights, in its place."""
    tokens = node.end - node.begin
    if call := compiled(grad):
        call("softmax_backward", grad, weights, scale, len(grad), tokens, grad.shape[1] // tokens, node.depth)
        return
    towards, shares = grad.float(), weights.float()
    mean = torch.linalg.vecdot(towards, shares)[..., None]
    grad.copy_((towards - mean).mul_(shares).mul_(scale))


def _weights(q: Tensor, keys: Tensor, node: Node) -> Tensor:
    scores = torch.bmm(of_node(q, node, len(keys)).flatten(1, 2), keys.transpose(1, 2))
    softmax(scores, q.shape[-1] ** -0.5, node)
    return scores  # (Hk, T*G, S)


def _seen(rows: Tensor, node: Node) -> Tensor:
    """What the node sees of (Hk, N, D): (Hk, S, D), without gaps, with which a product takes half the time."""
    return torch.cat([rows[:, begin:end] for begin, end in node.seen], dim=1)


def _add(part: Tensor, node: Node, sums: Tensor) -> None:
    """Add (Hk, S, D) to the rows of (Hk, N, D) that the node sees."""
    call = compiled(part)
    for rows, own in _runs(node):
        if call:
            strides = part.stride(0), sums.stride(0)
            values = (rows.stop - rows.start) * part.shape[-1]
            call("accumulate", part[0, own], strides[0], sums[0, rows], strides[1], len(part), values)
        else:
            sums[:, rows] += part[:, own]


def _runs(node: Node) -> Iterator[tuple[slice, slice]]:
    """Runs of rows that it sees, and where they lie among all that it sees."""
    done = 0
    for begin, end in node.seen:
        yield slice(begin, end), slice(done, done + end - begin)
        done += end - begin
