"""Both ways to attend are what the formula says, forward and backward. A GPU's kernel runs here as the CPU's."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from supervisor.distill.fast import attention
from tests.distill.fast.pupils import WIDE, outcome, pair, replies, total_error
from tests.distill.lessons import training

Forward = Callable[[Tensor, Tensor, Tensor], Tensor]
Backward = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
WAYS: dict[str, tuple[Forward, Backward]] = {
    "products": (attention.by_products, attention.by_products_backward),
    "fused": (attention.by_fused_kernel, attention.by_fused_kernel_backward),
}


def plainly(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """One query after the other, over the keys that it may see."""
    tokens, before = q.shape[1], k.shape[1] - q.shape[1]
    seen = []
    for token in range(tokens):
        keys, values = k[:, : before + token + 1], v[:, : before + token + 1]
        weights = torch.softmax(q[:, token] @ keys.transpose(1, 2) * q.shape[-1] ** -0.5, dim=-1)  # (Hk, G, S)
        seen.append(weights @ values)
    return torch.stack(seen, dim=1)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("before", [0, 1, 70])
@pytest.mark.parametrize(("key_heads", "group", "width"), [(2, 3, 24), (3, 1, 16), (1, 4, 64)])
@pytest.mark.parametrize("tokens", [1, 33])
def test_attention(way: str, before: int, key_heads: int, group: int, width: int, tokens: int) -> None:
    forward, backward = WAYS[way]
    torch.manual_seed(0)
    q, grad = torch.randn(2, key_heads, tokens, group, width)
    k, v = torch.randn(2, key_heads, before + tokens, width)
    exact = [part.double().requires_grad_() for part in (q, k, v)]
    wanted = plainly(*exact)
    wanted_q, wanted_k, wanted_v = torch.autograd.grad(wanted, exact, grad.double())

    to_q = torch.empty_like(q)
    with torch.no_grad():
        seen = forward(q, k, v)
        to_k, to_v = backward(grad, q, k, v, to_q)

    for ours, theirs in ((seen, wanted), (to_q, wanted_q), (to_k, wanted_k), (to_v, wanted_v)):
        torch.testing.assert_close(ours, theirs.float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-4), (torch.bfloat16, 2e-2)], ids=str)
def test_a_lesson_with_the_fused_kernel(
    dtype: torch.dtype, limit: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both, wishes = pair("qwen3", tmp_path, rounded=True, **WIDE), training(kl_reg_weight=0.1, alpha=0.0)
    exact = outcome(both.plain(), replies(4), wishes)
    forward, backward = WAYS["fused"]
    monkeypatch.setattr(attention, "by_products", forward)
    monkeypatch.setattr(attention, "by_products_backward", backward)

    assert total_error(outcome(both.fast(dtype), replies(4), wishes), exact) < limit
