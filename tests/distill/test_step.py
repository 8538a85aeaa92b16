"""The recipe's parts: who is asked for what, and where gradients come from."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor

from supervisor.distill.adapter import attach, trainable
from supervisor.distill.base import load_base
from supervisor.distill.batch import Encoded, encode
from supervisor.distill.job import LoraShape
from supervisor.distill.learn import recorded, train
from supervisor.distill.loss import k3
from supervisor.distill.optimizer import optimizer_for
from supervisor.distill.step import FrozenBase, PlainStudent, losses, picked, renewed, reply_log_probs, target
from supervisor.distill.student import Reply
from supervisor.distill.support import top_k
from tests.distill.lessons import chat_model, sample, training


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chat_model(tmp_path_factory.mktemp("base"))


@dataclass
class Pupil:
    """A model with an adapter that has moved, and replies to learn from."""

    model: PeftModel
    samples: list[Encoded]
    replies: list[Reply]

    def learn(self, **values: Any) -> dict[str, float]:
        student = PlainStudent(self.model)
        optimizer, _ = optimizer_for(student.parameters, None, learning_rate=1e-3)
        return train(student, optimizer, [self.replies], training(**values), lambda _done, _step: None)[0]

    def weights(self) -> list[Tensor]:
        return [weight.detach().clone() for weight in trainable(self.model).values()]


@pytest.fixture
def pupil(base: Path) -> Pupil:
    torch.manual_seed(0)
    loaded, tokenizer = load_base(base)
    model = attach(loaded, None, LoraShape(r=4, alpha=8))
    for name, weight in trainable(model).items():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.05)
    samples = [encode(one, tokenizer, max_prompt=1000) for one in (sample("one"), sample("two", "I don't know. 🎉"))]
    return Pupil(model, samples, recorded(samples))


def test_the_kl_is_to_the_model_without_its_adapter(base: Path, pupil: Pupil) -> None:
    bare, _ = load_base(base)
    reply = pupil.replies[0]
    wishes = training()

    goal = target(pupil.model, reply, wishes, FrozenBase(pupil.model))
    part = losses(pupil.model, reply, goal, wishes).losses

    student, frozen = (
        picked(reply_log_probs(one, reply.prompt, reply.tokens), reply.tokens) for one in (pupil.model, bare)
    )
    assert part.kl_reg.item() == pytest.approx(k3(student, frozen).mean().item(), rel=1e-4)
    assert part.kl_reg > 0


def test_only_what_stands_before_a_reply_token_is_pulled(pupil: Pupil) -> None:
    reply = pupil.replies[0]
    wishes = training()
    goal = target(pupil.model, reply, wishes, FrozenBase(pupil.model))
    kept: list[Tensor] = []
    head = pupil.model.get_base_model().lm_head
    handle = head.register_forward_hook(lambda _module, _inputs, logits: kept.append(logits))

    total = losses(pupil.model, reply, goal, wishes).losses.total
    handle.remove()

    (pull,) = torch.autograd.grad(total, kept[0])
    assert pull.shape[1] == len(reply.tokens) + 1  # no logits at all for the rest of the prompt
    assert (pull[0, :-1].norm(dim=-1) > 0).all()
    assert (pull[0, -1] == 0).all()


@dataclass(frozen=True)
class Elsewhere:
    """A teacher that tells its likeliest tokens and no more, as a server would."""

    ids: Tensor
    log_probs: Tensor

    def likeliest(self, reply: Reply, k: int) -> tuple[Tensor, Tensor]:
        return self.ids[: len(reply.tokens), :k], self.log_probs[: len(reply.tokens), :k]

    def at(self, reply: Reply, support: Tensor) -> Tensor:
        raise NotImplementedError


def test_a_teacher_may_be_somewhere_else(pupil: Pupil) -> None:
    told = torch.log_softmax(torch.randn(100, 400), dim=-1).topk(100, dim=-1)

    goal = target(pupil.model, pupil.replies[0], training(teacher_top_k=10), Elsewhere(told.indices, told.values))

    assert torch.equal(goal.support, told.indices[: len(goal.base), :10])
    torch.testing.assert_close(goal.teacher[:, :-1], told.values[: len(goal.base), :10])
    torch.testing.assert_close(goal.teacher.exp().sum(-1), torch.ones(len(goal.base)))


def test_the_students_support_is_its_own_and_chosen_anew_for_each_update(pupil: Pupil) -> None:
    reply, wishes, teacher = pupil.replies[0], training(support="student", teacher_top_k=10), FrozenBase(pupil.model)
    before = target(pupil.model, reply, wishes, teacher)
    pupil.learn(updates=2, learning_rate=1e-2)

    after = renewed(pupil.model, reply, before, wishes, teacher)

    with torch.no_grad():
        now = top_k(reply_log_probs(pupil.model, reply.prompt, reply.tokens), 10)
    assert torch.equal(after.support, now)
    assert not torch.equal(after.support, before.support)
    torch.testing.assert_close(after.teacher[:, :-1], teacher.at(reply, now))
    assert torch.equal(after.base, before.base)


def test_the_teachers_support_stays(pupil: Pupil) -> None:
    goal = target(pupil.model, pupil.replies[0], training(), FrozenBase(pupil.model))

    assert renewed(pupil.model, pupil.replies[0], goal, training(), FrozenBase(pupil.model)) is goal


@pytest.mark.parametrize("values", [{"support": "student"}, {"max_grad_norm": 0.0}, {"teacher_top_k": 10}], ids=str)
def test_a_lesson_brings_the_student_nearer_with_each_choice(pupil: Pupil, values: dict[str, Any]) -> None:
    metrics = pupil.learn(updates=8, kl_reg_weight=0.0, **values)

    assert metrics["distill_loss"] < 0.8 * metrics["first_loss"]


def test_gradients_are_cut_to_the_longest_allowed_and_zero_allows_any(pupil: Pupil) -> None:
    def longest(limit: float) -> float:
        pupil.learn(updates=1, max_grad_norm=limit)
        grads = [weight.grad for weight in trainable(pupil.model).values() if weight.grad is not None]
        return float(torch.nn.utils.get_total_norm(grads))

    assert longest(1e-3) == pytest.approx(1e-3, rel=1e-2)
    assert longest(0.0) > 1e-2


def test_who_wrote_the_reply_matters_for_its_weight_only(pupil: Pupil) -> None:
    reply, wishes, teacher = pupil.replies[0], training(), FrozenBase(pupil.model)

    by_base = target(pupil.model, reply, wishes, teacher)
    by_student = target(pupil.model, replace(reply, behaviour=Path("student")), wishes, teacher)

    assert torch.equal(by_base.behaviour, by_base.base)
    assert not torch.equal(by_student.behaviour, by_base.behaviour)
    assert torch.equal(by_student.teacher, by_base.teacher)
