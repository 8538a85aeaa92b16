"""The objective as a whole: value and gradient against the formula, and a gradient for every accepted value."""

from typing import Any

import pytest
import torch
from torch import Tensor

from supervisor.distill.job import Training
from supervisor.distill.loss import Losses, Target, sdpo
from supervisor.distill.support import top_k, with_tail
from tests.distill import plain
from tests.distill.lessons import training

VOCABULARY = 130  # more than the largest support
TOKENS = 5
ALPHAS = [0.0, 1e-3, 0.05, 0.3, 0.5, 0.9, 1.0]


def scene(seed: int = 0, spread: float = 2.0) -> plain.Scene:
    """Four views that differ, the student's and the author's enough for some ratios to be clipped."""
    torch.manual_seed(seed)
    student, teacher, base, behaviour = (torch.randn(TOKENS, VOCABULARY) * spread for _ in range(4))
    return plain.Scene(student.requires_grad_(), teacher, base, behaviour, [3, 1, 4, 1, 5])


def ours(views: plain.Scene, wishes: Training, student: Tensor | None = None) -> Losses:
    """``sdpo`` on the same views, at the precision of the logits given."""
    log_probs = torch.log_softmax(views.student if student is None else student, dim=-1)  # (T, V)
    frozen = [
        torch.log_softmax(one.to(log_probs.dtype), dim=-1) for one in (views.teacher, views.base, views.behaviour)
    ]
    written = torch.tensor(views.reply)[:, None]
    chooser = frozen[0] if wishes.support == "teacher" else log_probs.detach()
    support = top_k(chooser, wishes.teacher_top_k)
    base, behaviour = (one.gather(-1, written)[:, 0] for one in frozen[1:])
    goal = Target(support, with_tail(frozen[0].gather(-1, support)), base, behaviour)
    return sdpo(log_probs.gather(-1, support), log_probs.gather(-1, written)[:, 0], goal, wishes)


def gradient(loss: Tensor, logits: Tensor) -> Tensor:
    return torch.autograd.grad(loss, logits)[0]


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("support", ["teacher", "student"])
@pytest.mark.parametrize("k", [10, 64, 100])
def test_value_and_gradient_are_the_formulas(alpha: float, support: str, k: int) -> None:
    views = scene()
    wishes = training(alpha=alpha, support=support, teacher_top_k=k, kl_reg_weight=0.1, is_clip=2.0)

    loss, formula = ours(views, wishes).total, plain.sdpo(views, wishes)

    torch.testing.assert_close(loss.double(), formula, rtol=1e-5, atol=1e-7)
    true = gradient(formula, views.student)
    apart = (gradient(loss, views.student) - true).norm() / true.norm()
    assert apart < 1e-5 if alpha != 1e-3 else apart < 1e-4


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("k", [10, VOCABULARY - 1])
def test_the_gradient_is_the_slope_of_the_value(alpha: float, k: int) -> None:
    """Against finite differences in float64, through a support of any size; the ratio, which has no gradient, is 1."""
    views = scene()
    wishes = training(alpha=alpha, kl_reg_weight=0.1).model_copy(update={"teacher_top_k": k})
    own = plain.Scene(views.student, views.teacher, views.base, views.student.detach(), views.reply)

    def loss(logits: Tensor) -> Tensor:
        still = plain.Scene(own.student, own.teacher, own.base, logits.detach(), own.reply)
        return ours(still, wishes, logits).total

    assert torch.autograd.gradcheck(loss, views.student.detach().double().requires_grad_(), fast_mode=True)


ENDS: list[dict[str, Any]] = [
    *({"alpha": alpha} for alpha in ALPHAS),
    {"is_clip": 1.0},
    {"is_clip": 20.0},
    {"kl_reg_weight": 0.0},
    {"kl_reg_weight": 1.0},
    {"teacher_top_k": 10},
    {"teacher_top_k": 100},
    {"support": "student"},
]


@pytest.mark.parametrize("values", ENDS, ids=str)
def test_every_accepted_value_gives_a_gradient(values: dict[str, Any]) -> None:
    views = scene()

    pull = gradient(ours(views, training(**values)).distill, views.student)

    assert pull.isfinite().all()
    assert pull.norm() > 1e-5
    assert (pull.norm(dim=-1) > 0).all()  # at each token


def test_the_kl_pulls_a_student_that_agrees_with_its_teacher_back_to_the_base() -> None:
    views = scene()
    agreed = plain.Scene(views.student, views.student.detach(), views.base, views.behaviour, views.reply)

    with_kl = ours(agreed, training(kl_reg_weight=1.0))
    without = ours(agreed, training(kl_reg_weight=0.0))

    assert with_kl.kl_reg > 0
    assert gradient(with_kl.total, views.student).norm() > 0.1
    assert gradient(without.total, views.student).norm() < 1e-4


def test_a_token_counts_as_much_as_any_other_of_its_reply() -> None:
    """The mean over tokens: of a reply said twice, each half pulls half as much."""
    once = scene()
    student, teacher, base, behaviour = (
        torch.cat([one, one]) for one in (once.student, once.teacher, once.base, once.behaviour)
    )
    twice = plain.Scene(student, teacher, base, behaviour, [*once.reply, *once.reply])
    wishes = training()

    first, second = gradient(ours(twice, wishes).total, twice.student).chunk(2)

    torch.testing.assert_close(first, second)
    torch.testing.assert_close(2 * first, gradient(ours(once, wishes).total, once.student))


def test_a_certain_student_learns_what_its_own_likeliest_tokens_do_not_hold_from_the_teachers_only() -> None:
    """Why the support is the teacher's: token 0 is said, token 120 is asked for, and no longer in the student's top."""
    logits = torch.linspace(0, -3, VOCABULARY)[None]
    logits[0, 0], logits[0, 120] = 20.0, -5.0
    wanted = torch.zeros(1, VOCABULARY)
    wanted[0, 120] = 20.0
    views = plain.Scene(logits.requires_grad_(), wanted, logits.detach(), logits.detach(), [0])

    def pull(support: str) -> Tensor:
        wishes = training(support=support, alpha=0.0, teacher_top_k=10, kl_reg_weight=0.0)
        return gradient(ours(views, wishes).total, logits)[0]

    assert pull("teacher")[120] < -0.9
    assert pull("student")[120] == pytest.approx(float(pull("student")[119]), abs=0.1)
    assert pull("student")[120] > -0.1
