"""Attention over a packed tree, forward and backward, as plain matrix products.

On a CPU these beat the fused kernel two to four times in the backward pass, and only they share a prefix among
branches. Heads are grouped (GQA): G query heads read one key head.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from supervisor.distill.fast.tree import Node, Tree


@dataclass(frozen=True)
class Sight:
    """What the nodes of one tree may attend to."""

    tree: Tree
    masks: tuple[Tensor, ...]  # per node (G*T, S): 0 where row t of the node sees column s, minus infinity elsewhere


def sight(tree: Tree, *, group: int, dtype: torch.dtype) -> Sight:
    def mask(node: Node) -> Tensor:
        length = node.end - node.begin
        hidden = torch.full((length, length), -math.inf, dtype=dtype, device=tree.tokens.device).triu(1)
        return torch.nn.functional.pad(hidden, (node.depth, 0)).repeat(group, 1)

    return Sight(tree, tuple(mask(node) for node in tree.nodes))


def attend(q: Tensor, k: Tensor, v: Tensor, sight: Sight) -> Tensor:
    """q (N, Hq, D); k, v (N, Hk, D), rotated; returns (N, Hq, D)."""
    out = torch.empty_like(q)
    for node, mask in zip(sight.tree.nodes, sight.masks, strict=True):
        keys, values = _gather(k, node), _gather(v, node)  # (Hk, S, D)
        weights = _weights(_grouped(q, node, k.shape[1]), keys, mask)  # (Hk, G*T, S)
        out[node.begin : node.end] = _ungrouped(torch.bmm(weights, values), node)
    return out


def attend_backward(
    grad: Tensor, out: Tensor, q: Tensor, k: Tensor, v: Tensor, sight: Sight
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k, v from that of ``out``; the weights are computed again, not kept."""
    heads, scale = k.shape[1], q.shape[-1] ** -0.5
    dq = torch.empty_like(q)
    dk, dv = torch.zeros_like(k, dtype=torch.float32), torch.zeros_like(v, dtype=torch.float32)  # summed over branches
    for node, mask in zip(sight.tree.nodes, sight.masks, strict=True):
        queries, keys, values = _grouped(q, node, heads), _gather(k, node), _gather(v, node)
        given = _grouped(grad, node, heads)  # (Hk, G*T, D)
        weights = _weights(queries, keys, mask)  # (Hk, G*T, S)
        _scatter(dv, node, torch.bmm(weights.transpose(1, 2), given))
        towards = torch.bmm(given, values.transpose(1, 2))  # (Hk, G*T, S): gradient of the weights
        towards -= (given.float() * _grouped(out, node, heads).float()).sum(-1, keepdim=True).to(towards.dtype)
        towards *= weights  # gradient of the scores
        dq[node.begin : node.end] = _ungrouped(torch.bmm(towards, keys) * scale, node)
        _scatter(dk, node, torch.bmm(towards.transpose(1, 2), queries) * scale)
    return dq, dk.to(k.dtype), dv.to(v.dtype)


def _weights(queries: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
    scores = torch.baddbmm(mask, queries, keys.transpose(1, 2), alpha=queries.shape[-1] ** -0.5)  # (Hk, G*T, S)
    return torch.softmax(scores, dim=-1)


def _grouped(rows: Tensor, node: Node, heads: int) -> Tensor:
    """A node's rows of (N, Hk*G, D) as (Hk, G*T, D)."""
    own = rows[node.begin : node.end]
    return own.view(len(own), heads, -1, own.shape[-1]).permute(1, 2, 0, 3).reshape(heads, -1, own.shape[-1])


def _ungrouped(rows: Tensor, node: Node) -> Tensor:
    """(Hk, G*T, D) as (T, Hk*G, D)."""
    heads, _, width = rows.shape
    length = node.end - node.begin
    return rows.view(heads, -1, length, width).permute(2, 0, 1, 3).reshape(length, -1, width)


def _gather(rows: Tensor, node: Node) -> Tensor:
    """What the node sees of (N, Hk, D), as (Hk, S, D)."""
    return torch.cat([rows[begin:end] for begin, end in node.seen]).transpose(0, 1)


def _scatter(sums: Tensor, node: Node, parts: Tensor) -> None:
    """Add (Hk, S, D) to the rows that the node sees."""
    done = 0
    for begin, end in node.seen:
        sums[begin:end] += parts[:, done : done + end - begin].transpose(0, 1)
        done += end - begin
