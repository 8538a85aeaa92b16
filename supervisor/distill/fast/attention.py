"""Attention over a token tree, forward and backward: a token sees its node's ancestors, and its node up to itself.

Heads that read one key head are rows of one product. Shapes: N tokens of a tree; T of a node see S, its ancestors' and
their own; Hk key heads of G query heads each, all of width D.
"""

import torch
from torch import Tensor

from supervisor.distill.fast import flash, fused, products
from supervisor.distill.fast.tree import Tree

QUICKER = 2  # times, about, is flash as quick as products, thread by thread; but it gives no key head to two threads


def attend(q: Tensor, k: Tensor, v: Tensor, tree: Tree) -> tuple[Tensor, Tensor | None]:
    """q (N, Hk*G, D), k, v (Hk, N, D), as ``place.placed`` returns them.

    Returns (N, Hk*G, D), row after row, and what the backward pass needs beside it.
    """
    if q.device.type != "cpu":
        return fused.attend(q, k, v, tree), None
    call = flash.able(q)
    return products.attend(q, k, v, tree) if call is None else flash.attend(call, q, k, v, tree)


def attend_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, seen: Tensor, lse: Tensor | None, tree: Tree
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k, v, the last two in float32, from that of the result; ``seen, lse``: what ``attend`` gave."""
    if lse is None:
        return fused.attend_backward(grad, q, k, v, tree)
    call = flash.able(q) if torch.get_num_threads() <= QUICKER * len(k) else None
    if call is None:
        return products.attend_backward(grad, q, k, v, seen, lse, tree)
    return flash.attend_backward(call, grad, q, k, v, seen, lse, tree)
