"""The vocabulary in slices gives what the whole of it gives."""

from functools import partial

import pytest
import torch
from torch import Tensor

from supervisor.distill.fast import head
from supervisor.distill.fast.head import Head
from supervisor.distill.fast.weights import Whole

# Sums of 211 tokens, which each processor takes in an order of its own.
assert_close = partial(torch.testing.assert_close, rtol=1e-5, atol=5e-5)


@pytest.fixture(params=[7, 64, 1000])
def sliced(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Head:
    monkeypatch.setattr(head, "SLICE", request.param)
    monkeypatch.setattr(head, "PICKED", 300)
    torch.manual_seed(0)
    return Head(211, Whole(torch.randn(211, 16) * 2).rows)


def everything(model: Head, hidden: Tensor) -> Tensor:
    return torch.log_softmax(hidden @ model.rows(range(model.size)).t(), dim=-1)


def test_the_likeliest_tokens_are_found_across_slices(sliced: Head) -> None:
    hidden = torch.randn(9, 16)

    log_probs, ids = sliced.top(hidden, 30)

    expected = everything(sliced, hidden).topk(30)
    assert_close(log_probs, expected.values)
    assert torch.equal(ids, expected.indices)


def test_log_probabilities_of_chosen_tokens_are_normalised_over_all(sliced: Head) -> None:
    hidden, ids = torch.randn(9, 16), torch.randint(0, 211, (9, 5))

    found = sliced.log_probs(hidden, ids)

    assert_close(found, everything(sliced, hidden).gather(-1, ids))


def test_the_gradient_of_the_hidden_states_is_autograds(sliced: Head) -> None:
    hidden, ids, pull = torch.randn(9, 16, requires_grad=True), torch.randint(0, 211, (9, 5)), torch.randn(9, 5)
    ids[:4, 4] = ids[:4, 1]  # a token may be asked for twice
    torch.autograd.backward((everything(sliced, hidden).gather(-1, ids) * pull).sum())

    with torch.no_grad():
        log_probs, rest = sliced.log_probs_and_rest(hidden, ids)
        ours = sliced.pull(ids, pull, log_probs, rest)

    assert_close(log_probs, everything(sliced, hidden).gather(-1, ids).detach())
    assert hidden.grad is not None
    assert_close(ours, hidden.grad)


def test_very_large_logits_stay_finite(sliced: Head) -> None:
    hidden = torch.randn(3, 16) * 1e4

    log_probs, rest = sliced.log_probs_and_rest(hidden, torch.zeros(3, 1, dtype=torch.long))

    assert log_probs.isfinite().all()
    assert rest.isfinite().all()
