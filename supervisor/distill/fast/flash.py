"""FlashAttention (arXiv 2205.14135): a layer's whole tree in one call of flash.cpp. Shapes: see attention.py."""

import torch
from torch import Tensor

from supervisor.distill.fast.kernels import FLASH, Call, compiled, kind
from supervisor.distill.fast.tree import Tree

WHOLE = 32  # what a head's width must be a multiple of


def able(q: Tensor) -> Call | None:
    """What ``attend`` and ``attend_backward`` are given where they can be done so."""
    return compiled(q) if q.shape[-1] % WHOLE == 0 and kind() in FLASH.get(q.dtype, ()) else None


def attend(call: Call, q: Tensor, k: Tensor, v: Tensor, tree: Tree) -> tuple[Tensor, Tensor]:
    """As ``products.attend``."""
    out, lse = torch.empty_like(q), torch.empty(q.shape[:2])
    call("attend", q, k, v, *shape(q, k), *tables(tree), q.shape[-1] ** -0.5, out, lse)
    return out, lse


def attend_backward(
    call: Call, grad: Tensor, q: Tensor, k: Tensor, v: Tensor, seen: Tensor, lse: Tensor, tree: Tree
) -> tuple[Tensor, Tensor, Tensor]:
    """As ``products.attend_backward``."""
    dq = torch.empty_like(q)
    dk, dv = torch.zeros_like(k, dtype=torch.float32), torch.zeros_like(v, dtype=torch.float32)  # summed over branches
    call("attend_backward", grad, q, k, v, seen, lse, *shape(q, k), *tables(tree), q.shape[-1] ** -0.5, dq, dk, dv)
    return dq, dk, dv


def shape(q: Tensor, k: Tensor) -> tuple[int, int, int, int]:
    """Rows, heads, key heads, width."""
    rows, heads, width = q.shape
    return rows, heads, len(k), width


def tables(tree: Tree) -> tuple[Tensor, int, Tensor]:
    """Nodes, how many, and the runs that they see: as in flash.cpp."""
    nodes: list[tuple[int, int, int, int]] = []
    runs: list[tuple[int, int]] = []
    for node in tree.nodes:
        nodes.append((node.begin, node.end, len(runs), len(node.seen)))
        runs.extend(node.seen)
    return torch.tensor(nodes), len(nodes), torch.tensor(runs)
