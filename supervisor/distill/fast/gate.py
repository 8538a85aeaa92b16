"""SwiGLU (arXiv 2002.05202) on gate and up side by side, forward and backward."""

import torch
from torch import Tensor

from supervisor.distill.fast.kernels import compiled


def gated(gate_up: Tensor) -> Tensor:
    """silu(gate) * up: (N, 2F) -> (N, F)."""
    rows, width = len(gate_up), gate_up.shape[1] // 2
    if call := compiled(gate_up):
        out = gate_up.new_empty(rows, width)
        call("gated", gate_up, rows, width, out)
        return out
    gate, up = gate_up.chunk(2, dim=-1)
    return torch.nn.functional.silu(gate).mul_(up)


def gated_backward(grad: Tensor, gate_up: Tensor) -> Tensor:
    """The gradient of both, (N, 2F), from that of the result, (N, F): in the place of ``gate_up``."""
    if call := compiled(grad):
        call("gated_backward", grad, *grad.shape, gate_up)
        return gate_up
    gate, up = gate_up.chunk(2, dim=-1)
    to_up = torch.nn.functional.silu(gate).mul_(grad)
    torch.ops.aten.silu_backward.grad_input(grad * up, gate.clone(), grad_input=gate)
    up.copy_(to_up)
    return gate_up
