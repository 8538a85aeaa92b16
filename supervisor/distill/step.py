"""The plain recipe on the modules of transformers and PEFT: any architecture, one reply at a time, no padding.

It is the reference: the fast engine must give the same loss and the same gradients.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import torch
from peft import PeftModel
from torch import Tensor

from supervisor.distill.adapter import trainable, wearing
from supervisor.distill.batch import Encoded
from supervisor.distill.job import Training
from supervisor.distill.learn import part_of, recorded
from supervisor.distill.loss import Target, sdpo
from supervisor.distill.student import STUDENT, Reply, Report, Step, Told
from supervisor.distill.support import top_k, with_tail


class Teacher(Protocol):
    """Whoever has read the feedback (``Reply.hindsight``); asked about the tokens of a reply. No gradients.

    A server that tells its most likely tokens can be one; with ``Training.support`` "student" it must score others too.
    """

    def likeliest(self, reply: Reply, k: int) -> tuple[Tensor, Tensor]:
        """Its k most likely tokens at each place and their log-probabilities: (T, K) ids, (T, K)."""

    def at(self, reply: Reply, support: Tensor) -> Tensor:
        """Its log-probabilities of tokens that somebody else chose: (T, K) ids -> (T, K)."""


@dataclass(frozen=True)
class FrozenBase:
    """The teacher of ``teacher_mode`` "self": the model without its adapter."""

    model: PeftModel

    def likeliest(self, reply: Reply, k: int) -> tuple[Tensor, Tensor]:
        log_probs = self._read(reply)  # (T, V)
        support = top_k(log_probs, k)  # (T, K)
        return support, log_probs.gather(-1, support)

    def at(self, reply: Reply, support: Tensor) -> Tensor:
        return self._read(reply).gather(-1, support)

    @torch.no_grad()
    def _read(self, reply: Reply) -> Tensor:
        with wearing(self.model, None, name="base"):
            return reply_log_probs(self.model, reply.hindsight, reply.tokens)  # (T, V)


def reply_log_probs(model: PeftModel, context: Sequence[int], reply: Sequence[int]) -> Tensor:
    """Log-probabilities over the vocabulary at each reply token, float32: (T, V)."""
    tokens = torch.tensor([[*context, *reply]], device=model.device)  # (1, P+T)
    logits = model(input_ids=tokens, use_cache=False, logits_to_keep=len(reply) + 1).logits  # (1, T+1, V)
    return torch.log_softmax(logits[0, :-1].float(), dim=-1)  # (T, V)


def picked(log_probs: Tensor, reply: Sequence[int]) -> Tensor:
    """The reply tokens' own log-probabilities: (T, V) -> (T,)."""
    return log_probs.gather(-1, torch.tensor(reply, device=log_probs.device)[:, None])[:, 0]


@torch.no_grad()
def target(model: PeftModel, reply: Reply, training: Training, teacher: Teacher) -> Target:
    """What is settled before the first update: how likely base and author find the reply, and the teacher's view."""
    with wearing(model, None, name="base"):
        base = picked(reply_log_probs(model, reply.prompt, reply.tokens), reply.tokens)  # (T,)
    if reply.behaviour is None:
        behaviour = base
    elif reply.behaviour == STUDENT:
        behaviour = picked(reply_log_probs(model, reply.prompt, reply.tokens), reply.tokens)  # (T,)
    else:
        with wearing(model, reply.behaviour, name=reply.behaviour.name):
            behaviour = picked(reply_log_probs(model, reply.prompt, reply.tokens), reply.tokens)  # (T,)
    return Target(*view(model, reply, training, teacher), base, behaviour)


@torch.no_grad()
def view(model: PeftModel, reply: Reply, training: Training, teacher: Teacher) -> tuple[Tensor, Tensor]:
    """The support and the teacher's log-probabilities there, tail last: (T, K) ids, (T, K+1)."""
    if training.support == "teacher":
        support, chosen = teacher.likeliest(reply, training.teacher_top_k)  # (T, K), (T, K)
    else:
        support = top_k(reply_log_probs(model, reply.prompt, reply.tokens), training.teacher_top_k)  # (T, K)
        chosen = teacher.at(reply, support)  # (T, K)
    return support, with_tail(chosen)


def renewed(model: PeftModel, reply: Reply, goal: Target, training: Training, teacher: Teacher) -> Target:
    """The target of a further update: the student's most likely tokens are others by then, the teacher's are not."""
    if training.support == "teacher":
        return goal
    support, seen = view(model, reply, training, teacher)
    return replace(goal, support=support, teacher=seen)


def losses(model: PeftModel, reply: Reply, goal: Target, training: Training) -> Step:
    """The student's loss on one reply, with its gradient."""
    log_probs = reply_log_probs(model, reply.prompt, reply.tokens)  # (T, V)
    own = picked(log_probs, reply.tokens)  # (T,)
    return Step(sdpo(log_probs.gather(-1, goal.support), own, goal, training), own.detach())


@dataclass(frozen=True)
class PlainStudent:
    """A student of ``student.Student``'s kind; its goals are targets."""

    model: PeftModel

    @property
    def parameters(self) -> Mapping[str, torch.nn.Parameter]:
        return trainable(self.model)

    def goals(self, replies: Sequence[Reply], training: Training, told: Told) -> list[Target]:
        goals = []
        for reply in replies:
            goals.append(target(self.model, reply, training, FrozenBase(self.model)))
            told(len(goals) / len(replies))
        return goals

    def gradients(
        self, replies: Sequence[Reply], goals: Sequence[Target], training: Training, told: Told
    ) -> list[Step]:
        teacher, steps = FrozenBase(self.model), []
        for reply, goal in zip(replies, goals, strict=True):
            step = losses(self.model, reply, renewed(self.model, reply, goal, training, teacher), training)
            torch.autograd.backward(step.losses.total / len(replies))
            steps.append(step)
            told(len(steps) / len(replies))
        return steps

    @torch.no_grad()
    def log_probs(self, replies: Sequence[Reply]) -> list[Tensor]:
        return [picked(reply_log_probs(self.model, one.prompt, one.tokens), one.tokens) for one in replies]


def rounds(
    model: PeftModel, samples: Sequence[Encoded], training: Training, report: Report
) -> Iterator[Sequence[Reply]]:
    """The recorded replies, and then fresh ones of the student as it is when each further round begins."""
    yield recorded(samples)
    for index in range(1, training.rounds):
        yield practice(model, samples, training, partial(part_of, report, index, training.rounds))


@torch.no_grad()
def practice(model: PeftModel, samples: Sequence[Encoded], training: Training, report: Report) -> list[Reply]:
    """Fresh replies of the student to the lesson's prompts, sampled at temperature 1."""
    replies: list[Reply] = []
    for index, one in enumerate(samples):
        report(0.4 * index / len(samples), f"practising {index + 1} of {len(samples)}")
        prompt = torch.tensor([one.prompt], device=model.device)  # (1, P)
        written = model.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            num_return_sequences=training.rollouts,
            eos_token_id=one.closing,
            pad_token_id=one.closing,
            max_new_tokens=longest_reply(len(one.reply)),
        )  # (R, P+T)
        fresh = (until_closed(row, one.closing) for row in written[:, prompt.shape[1] :].tolist())
        replies.extend(Reply(one.prompt, one.hindsight, tokens, STUDENT) for tokens in fresh)
    return replies


def longest_reply(recorded_tokens: int) -> int:
    """Room for a reply somewhat longer than the recorded one; a longer one is learned from up to there."""
    return recorded_tokens + recorded_tokens // 2 + 16


def until_closed(row: Sequence[int], closing: int) -> list[int]:
    """A generated row without its padding: up to its first closing token, which is kept."""
    tokens = list(row)
    return tokens[: tokens.index(closing) + 1] if closing in tokens else tokens
