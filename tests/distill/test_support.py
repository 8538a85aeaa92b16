"""Which tokens are compared one by one, and the bucket of all others."""

import pytest
import torch
from torch import Tensor

from supervisor.distill.support import FLOOR, top_k, with_tail

VOCABULARY = 40


def log_probs(seed: int, *, certainty: float = 2.0) -> Tensor:
    torch.manual_seed(seed)
    return torch.log_softmax(torch.randn(6, VOCABULARY) * certainty, dim=-1)


def test_the_support_is_the_most_likely_tokens() -> None:
    whole = log_probs(1)

    chosen = whole.gather(-1, top_k(whole, 10))

    assert chosen.shape == (6, 10)
    assert (chosen.amin(-1) >= whole.sort(-1).values[:, -10]).all()


def test_a_small_vocabulary_leaves_a_token_for_the_tail() -> None:
    assert top_k(log_probs(1), 100).shape == (6, VOCABULARY - 1)


def test_the_tail_makes_the_support_whole() -> None:
    whole = log_probs(3)

    kept = with_tail(whole.gather(-1, top_k(whole, 10)))

    assert kept.shape == (6, 11)
    torch.testing.assert_close(kept.exp().sum(-1), torch.ones(6), rtol=1e-5, atol=1e-6)


def pull_of_the_tail(logits: Tensor, inside: int) -> Tensor:
    """The gradient of the tail's log-probability with respect to the logits, the first ``inside`` being the support."""
    free = logits.clone().requires_grad_()
    torch.autograd.backward(with_tail(torch.log_softmax(free, dim=-1)[..., :inside])[..., -1].sum())
    assert free.grad is not None
    return free.grad


def true_pull(logits: Tensor, inside: int) -> Tensor:
    """The same from the tokens outside, in float64."""
    free = logits.double().requires_grad_()
    torch.autograd.backward(torch.log_softmax(free, dim=-1)[..., inside:].logsumexp(-1).sum())
    assert free.grad is not None
    return free.grad


@pytest.mark.parametrize("tail", [0.9, 0.1, 1e-2, 1e-4])
def test_the_gradient_of_the_tail_is_that_of_the_tokens_in_it(tail: float) -> None:
    logits = torch.cat([torch.zeros(10), torch.full((20,), tail / (1 - tail) * 10 / 20).log()])

    torch.testing.assert_close(pull_of_the_tail(logits, 10).double(), true_pull(logits, 10), rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("tail", [FLOOR / 2, FLOOR / 8])
def test_a_student_certain_of_its_support_is_still_pulled_out_of_it(tail: float) -> None:
    """The bucket is too small for float32; its gradient is smaller than the true one, and points the same way."""
    logits = torch.cat([torch.zeros(1), torch.full((20,), tail / 20).log()])

    pull, true = pull_of_the_tail(logits, 1), true_pull(logits, 1)

    assert pull[0] == pytest.approx(float(true[0]) * tail / FLOOR, rel=0.5)
    assert pull[0] < 0


@pytest.mark.parametrize("gap", [20.0, 90.0, 1e4])
def test_a_tail_that_holds_nothing_gives_a_finite_value_and_gradient(gap: float) -> None:
    logits = torch.tensor([[gap, gap, 0.0, 0.0]])

    assert with_tail(torch.log_softmax(logits, dim=-1)[:, :2]).isfinite().all()
    assert pull_of_the_tail(logits, 2).abs().max() <= 1
