"""The recipe of a lesson, top to bottom: score, loss, backward per reply, update; practise, and again.

This is the plain version on transformers and PEFT modules: any architecture, one sample at a time, no padding.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
from peft import PeftModel
from torch import Tensor

from supervisor.distill.adapter import trainable, wearing
from supervisor.distill.batch import Encoded
from supervisor.distill.job import Training
from supervisor.distill.loss import Losses, Target, sdpo
from supervisor.distill.support import top_k, with_tail
from supervisor.errors import DistillError

Report = Callable[[float, str], None]


@dataclass(frozen=True)
class Reply:
    """A reply to learn from, between the two contexts it is scored in; token ids."""

    prompt: Sequence[int]
    hindsight: Sequence[int]
    tokens: Sequence[int]
    behaviour: Path | None  # the adapter folder that wrote it, None: the bare base; STUDENT: the model itself, just now


STUDENT = Path("student")  # no folder: the reply was written in this lesson


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


def losses(model: PeftModel, reply: Reply, goal: Target, training: Training) -> Losses:
    """The student's loss on one reply, with its gradient."""
    log_probs = reply_log_probs(model, reply.prompt, reply.tokens)  # (T, V)
    return sdpo(log_probs.gather(-1, goal.support), picked(log_probs, reply.tokens), goal, training)


def train(
    model: PeftModel, optimizer: torch.optim.Optimizer, samples: Sequence[Encoded], training: Training, report: Report
) -> dict[str, float]:
    """Make the lesson's optimiser steps; the metrics are those of the last one, and the first one's loss.

    The loss is the mean over replies of each reply's mean over its tokens. Raises DistillError when the gradient stops
    being a number: nothing of such a lesson is kept.
    """
    metrics: dict[str, float] = {}
    for index in range(training.rounds):
        share = partial(part_of, report, index, training.rounds)
        replies = recorded(samples) if index == 0 else practice(model, samples, training, share)
        metrics = {**learn(model, optimizer, replies, training, share), **first_loss(metrics)}
    return metrics


def part_of(report: Report, index: int, rounds: int, done: float, step: str) -> None:
    """Report progress of one round as progress of the whole."""
    report((index + done) / rounds, step if rounds == 1 else f"round {index + 1} of {rounds}: {step}")


def first_loss(metrics: dict[str, float]) -> dict[str, float]:
    return {"first_loss": metrics["first_loss"]} if metrics else {}


def recorded(samples: Sequence[Encoded]) -> list[Reply]:
    return [Reply(one.prompt, one.hindsight, one.reply, one.sample.behaviour) for one in samples]


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


def learn(
    model: PeftModel, optimizer: torch.optim.Optimizer, replies: Sequence[Reply], training: Training, report: Report
) -> dict[str, float]:
    """``training.updates`` optimiser steps over these replies."""
    teacher = FrozenBase(model)
    goals = []
    for index, reply in enumerate(replies):
        report(0.4 + 0.1 * index / len(replies), f"reading the feedback {index + 1} of {len(replies)}")
        goals.append(target(model, reply, training, teacher))
    parameters = list(trainable(model).values())
    metrics: dict[str, float] = {}
    for update in range(training.updates):
        if update > 0:
            goals = [renewed(model, *both, training, teacher) for both in zip(replies, goals, strict=True)]
        optimizer.zero_grad(set_to_none=True)
        parts: list[Losses] = []
        for reply, goal in zip(replies, goals, strict=True):
            done = (update * len(replies) + len(parts)) / (training.updates * len(replies))
            report(0.5 + 0.5 * done, f"update {update + 1} of {training.updates}")
            part = losses(model, reply, goal, training)
            torch.autograd.backward(part.total / len(replies))
            parts.append(part)
        norm = torch.nn.utils.clip_grad_norm_(parameters, training.max_grad_norm or float("inf"))
        if not torch.isfinite(norm):
            raise DistillError(f"the gradient of update {update + 1} is {norm.item()}; try a lower learning_rate")
        optimizer.step()
        now = summary(parts, replies, norm)
        metrics = {"first_loss": metrics.get("first_loss", now["total_loss"]), **now}
    return metrics


def summary(parts: Sequence[Losses], replies: Sequence[Reply], norm: Tensor) -> dict[str, float]:
    """Metrics of one update, under the names that users of the older service know."""
    count = len(parts)
    return {
        "total_loss": sum(part.total.item() for part in parts) / count,
        "distill_loss": sum(part.distill.item() for part in parts) / count,
        "kl_reg": sum(part.kl_reg.item() for part in parts) / count,
        "mean_is_ratio": sum(part.ratio.item() for part in parts) / count,
        "clip_fraction": sum(part.clipped.item() for part in parts) / count,
        "grad_norm": norm.item(),
        "tokens_processed": float(sum(len(reply.tokens) for reply in replies)),
        "batch_size": float(count),
    }
