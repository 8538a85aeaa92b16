"""Attention over a packed tree, forward and backward, node by node.

On a CPU as plain matrix products with a softmax between them, which beat PyTorch's fused kernel two to four times in
the backward pass; elsewhere that kernel it is (``scaled_dot_product_attention``), which a GPU has for this. Heads are
grouped (GQA): the G query heads that read one key head are rows of one product. Shapes: T tokens of a node see S, its
ancestors' and their own.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention

from supervisor.distill.fast.kernels import compiled
from supervisor.distill.fast.place import of_node, of_rows
from supervisor.distill.fast.tree import Node, Tree


def attend(q: Tensor, k: Tensor, v: Tensor, tree: Tree) -> Tensor:
    """q (N, Hk*G, D), k, v (Hk, N, D), as ``place.placed`` returns them; returns (N, Hk*G, D), row after row."""
    of_seen = by_products if q.device.type == "cpu" else by_fused_kernel
    out = torch.empty_like(q)
    for node in tree.nodes:
        of_rows(out, node, len(k)).copy_(of_seen(of_node(q, node, len(k)), _seen(k, node), _seen(v, node)))
    return out


def attend_backward(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, tree: Tree) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k, v, the last two in float32, from that of the result; the weights are computed again."""
    of_seen = by_products_backward if q.device.type == "cpu" else by_fused_kernel_backward
    dq = torch.empty_like(q)
    dk, dv = torch.zeros_like(k, dtype=torch.float32), torch.zeros_like(v, dtype=torch.float32)  # summed over branches
    for node in tree.nodes:
        given, queries = of_rows(grad, node, len(k)), of_node(q, node, len(k))
        to_k, to_v = of_seen(given, queries, _seen(k, node), _seen(v, node), of_node(dq, node, len(k)))
        _add(to_k, node, dk)
        _add(to_v, node, dv)
    return dq, dk, dv


def by_products(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """q (Hk, T, G, D), k, v (Hk, S, D), of which the last T are the queries' own tokens; returns (Hk, T, G, D)."""
    return torch.bmm(_weights(q, k), v).view(q.shape)


def by_products_backward(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, dq: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of k and v from that of what ``by_products`` returns; that of q is written to ``dq``."""
    given, tokens = grad.flatten(1, 2), q.shape[1]
    weights = _weights(q, k)
    to_v = torch.bmm(weights.transpose(1, 2), given)
    towards = torch.bmm(given, v.transpose(1, 2))  # (Hk, T*G, S): gradient of the weights
    softmax_backward(towards, weights, q.shape[-1] ** -0.5, tokens)
    torch.bmm(towards, k, out=dq.flatten(1, 2))
    return torch.bmm(towards.transpose(1, 2), q.flatten(1, 2)), to_v


def by_fused_kernel(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """What ``by_products`` does."""
    own_last = causal_lower_right(q.shape[1], k.shape[1])
    heads = q.transpose(1, 2).flatten(0, 1)  # (Hk*G, T, D)
    seen = scaled_dot_product_attention(heads[None], k[None], v[None], attn_mask=own_last, enable_gqa=True)
    return seen.view(len(k), -1, *heads.shape[1:]).transpose(1, 2)


def by_fused_kernel_backward(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, dq: Tensor) -> tuple[Tensor, Tensor]:
    """What ``by_products_backward`` does."""
    parts = [part.detach().requires_grad_() for part in (q, k, v)]
    with torch.enable_grad():
        seen = by_fused_kernel(*parts)
    to_q, to_k, to_v = torch.autograd.grad(seen, parts, grad)
    dq.copy_(to_q)
    return to_k.contiguous(), to_v.contiguous()


def softmax(scores: Tensor, scale: float, tokens: int) -> None:
    """Scores (Hk, T*G, S) to weights, in place: a token sees what is before it, and itself."""
    before = scores.shape[2] - tokens
    if call := compiled(scores):
        call("softmax", scores, scale, len(scores), tokens, scores.shape[1] // tokens, before)
        return
    ahead = torch.ones(tokens, tokens, dtype=torch.bool, device=scores.device).triu(1)
    scores[..., before:].masked_fill_(ahead.repeat_interleave(scores.shape[1] // tokens, 0), -math.inf)
    scores.copy_(torch.softmax(scores.float().mul_(scale), dim=-1))


def softmax_backward(grad: Tensor, weights: Tensor, scale: float, tokens: int) -> None:
    """The gradient of the scores from that of the weights, in its place."""
    if call := compiled(grad):
        before, group = grad.shape[2] - tokens, grad.shape[1] // tokens
        call("softmax_backward", grad, weights, scale, len(grad), tokens, group, before)
        return
    towards, shares = grad.float(), weights.float()
    mean = torch.linalg.vecdot(towards, shares)[..., None]
    grad.copy_((towards - mean).mul_(shares).mul_(scale))


def _weights(q: Tensor, k: Tensor) -> Tensor:
    scores = torch.bmm(q.flatten(1, 2), k.transpose(1, 2))
    softmax(scores, q.shape[-1] ** -0.5, q.shape[1])
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
