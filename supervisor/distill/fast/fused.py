"""Attention as PyTorch's fused kernel, which is what a GPU is quick at. Shapes: see attention.py."""

import torch
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention

from supervisor.distill.fast.place import of_node, of_rows
from supervisor.distill.fast.tree import Node, Tree


def attend(q: Tensor, k: Tensor, v: Tensor, tree: Tree) -> Tensor:
    out = torch.empty_like(q)
    for node in tree.nodes:
        found = of_queries(of_node(q, node, len(k)), all_seen(k, node), all_seen(v, node))
        of_rows(out, node, len(k)).copy_(found)
    return out


def attend_backward(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, tree: Tree) -> tuple[Tensor, Tensor, Tensor]:
    """What is attended to is computed again."""
    dq = torch.empty_like(q)
    dk, dv = torch.zeros_like(k, dtype=torch.float32), torch.zeros_like(v, dtype=torch.float32)
    for node in tree.nodes:
        given = of_node(q, node, len(k)), all_seen(k, node), all_seen(v, node)
        parts = [part.detach().requires_grad_() for part in given]
        with torch.enable_grad():
            found = of_queries(*parts)
        to_q, to_k, to_v = torch.autograd.grad(found, parts, of_rows(grad, node, len(k)))
        of_node(dq, node, len(k)).copy_(to_q)
        done = 0
        for begin, end in node.seen:
            own = slice(done, done := done + end - begin)
            dk[:, begin:end] += to_k[:, own]
            dv[:, begin:end] += to_v[:, own]
    return dq, dk, dv


def of_queries(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """q (Hk, T, G, D), k, v (Hk, S, D), of which the last T are the queries' own tokens; returns (Hk, T, G, D)."""
    own_last = causal_lower_right(q.shape[1], k.shape[1])
    heads = q.transpose(1, 2).flatten(0, 1)  # (Hk*G, T, D)
    seen = scaled_dot_product_attention(heads[None], k[None], v[None], attn_mask=own_last, enable_gqa=True)
    return seen.view(len(k), -1, *heads.shape[1:]).transpose(1, 2)


def all_seen(rows: Tensor, node: Node) -> Tensor:
    """What the node sees of (Hk, N, D): (Hk, S, D)."""
    return torch.cat([rows[:, begin:end] for begin, end in node.seen], dim=1)
