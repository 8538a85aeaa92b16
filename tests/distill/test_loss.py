"""The objective's invariants, and a float64 reference over the whole vocabulary."""

import math

import pytest
import torch
from torch import Tensor

from supervisor.distill.loss import divergence, importance_ratio, k3, kl
from supervisor.distill.support import with_tail

VOCABULARY = 40
ALPHAS = [0.0, 0.05, 0.3, 0.5, 0.9, 1.0]


def log_probs(seed: int, tokens: int = 6, spread: float = 2.0) -> Tensor:
    torch.manual_seed(seed)
    return torch.log_softmax(torch.randn(tokens, VOCABULARY) * spread, dim=-1)


def generalised_jsd(student: Tensor, teacher: Tensor, alpha: float) -> Tensor:
    """The definition, over probabilities, in float64."""
    p, q = student.double().exp(), teacher.double().exp()
    if alpha == 0.0:
        return (q * (q / p).log()).sum(-1)
    if alpha == 1.0:
        return (p * (p / q).log()).sum(-1)
    mixture = (1 - alpha) * p + alpha * q
    return (1 - alpha) * (p * (p / mixture).log()).sum(-1) + alpha * (q * (q / mixture).log()).sum(-1)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_divergence_is_the_definition(alpha: float) -> None:
    student, teacher = log_probs(1), log_probs(2)

    ours = divergence(student, teacher, alpha=alpha)

    torch.testing.assert_close(ours.double(), generalised_jsd(student, teacher, alpha), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_disagreement_always_moves_the_student(alpha: float) -> None:
    student, teacher = log_probs(1).requires_grad_(), log_probs(2)

    torch.autograd.backward(divergence(student, teacher, alpha=alpha).sum())

    assert student.grad is not None
    assert student.grad.abs().sum() > 0


@pytest.mark.parametrize("alpha", ALPHAS)
def test_agreement_costs_nothing(alpha: float) -> None:
    student = log_probs(1)

    torch.testing.assert_close(divergence(student, student, alpha=alpha), torch.zeros(6), rtol=0, atol=1e-5)


def test_a_certain_and_wrong_student_is_moved_more_at_the_forward_end() -> None:
    """Why small models learn with alpha near 0: the mixture's gradient saturates."""
    logits = torch.zeros(1, 3)
    logits[0, 0] = 12.0  # the student is sure of token 0
    teacher = torch.log_softmax(torch.tensor([[0.0, 12.0, 0.0]]), dim=-1)  # the teacher wants token 1

    def pull(alpha: float) -> float:
        free = logits.clone().requires_grad_()
        torch.autograd.backward(divergence(torch.log_softmax(free, dim=-1), teacher, alpha=alpha).sum())
        assert free.grad is not None
        return float(free.grad.abs().max())

    assert pull(0.0) > 100 * pull(0.5)


def test_the_support_never_overstates_the_divergence() -> None:
    """Merging tokens into a bucket can only hide disagreement (data-processing inequality)."""
    student, teacher = log_probs(4), log_probs(5)
    support = teacher.topk(10, dim=-1).indices

    merged = divergence(with_tail(student.gather(-1, support)), with_tail(teacher.gather(-1, support)), alpha=0.3)

    assert (merged <= divergence(student, teacher, alpha=0.3) + 1e-6).all()


def test_kl_ignores_what_the_first_distribution_excludes() -> None:
    p = torch.tensor([[0.0, -math.inf]])
    q = torch.tensor([[math.log(0.5), math.log(0.5)]])

    assert kl(p, q).item() == pytest.approx(math.log(2))


def test_the_ratio_is_one_for_the_version_that_wrote_the_reply() -> None:
    own = torch.tensor([-1.0, -3.0])

    ratio, clipped = importance_ratio(own, own, clip=5.0)

    assert ratio.tolist() == [1.0, 1.0]
    assert not clipped.any()


def test_the_ratio_is_cut_and_carries_no_gradient() -> None:
    own = torch.tensor([-0.1, -3.0], requires_grad=True)

    ratio, clipped = importance_ratio(own, torch.tensor([-9.0, -3.0]), clip=5.0)

    assert ratio.tolist() == [5.0, 1.0]
    assert clipped.tolist() == [True, False]
    assert not ratio.requires_grad


def test_k3_is_never_negative_and_zero_only_in_agreement() -> None:
    own = torch.tensor([-1.0, -2.0, -3.0])
    base = torch.tensor([-1.0, -1.0, -5.0])

    estimate = k3(own, base)

    assert estimate[0] == 0
    assert (estimate[1:] > 0).all()
