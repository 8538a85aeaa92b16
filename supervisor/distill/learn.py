"""A lesson's optimiser steps, whoever computes the gradients: read the feedback once, then update after update."""

from collections.abc import Iterable, Sequence
from functools import partial

import torch
from torch import Tensor

from supervisor.distill.batch import Encoded
from supervisor.distill.job import Training
from supervisor.distill.student import Goal, Reply, Report, Step, Student
from supervisor.errors import DistillError


def recorded(samples: Sequence[Encoded]) -> list[Reply]:
    """The replies that the feedback was about."""
    return [Reply(one.prompt, one.hindsight, one.reply, one.sample.behaviour) for one in samples]


def train(
    student: Student[Goal],
    optimizer: torch.optim.Optimizer,
    rounds: Iterable[Sequence[Reply]],
    training: Training,
    report: Report,
) -> tuple[dict[str, float], list[Tensor]]:
    """Make the lesson's optimiser steps on each round's replies; a later round may be written by the student meanwhile.

    Metrics are those of the last update, and the first one's loss; with them what the student gave each token of the
    first round's replies before it learned, (T,) each. The loss is the mean over replies of each reply's mean over its
    tokens. Raises DistillError when the gradient stops being a number: nothing of such a lesson is kept.
    """
    metrics: dict[str, float] = {}
    before: list[Tensor] = []
    for index, replies in enumerate(rounds):
        now, own = learn(student, optimizer, replies, training, partial(part_of, report, index, training.rounds))
        metrics = {**now, "first_loss": metrics.get("first_loss", now["first_loss"])}
        before = before or own
    return metrics, before


def part_of(report: Report, index: int, rounds: int, done: float, step: str) -> None:
    """Report progress of one round as progress of the whole."""
    report((index + done) / rounds, step if rounds == 1 else f"round {index + 1} of {rounds}: {step}")


def learn(
    student: Student[Goal],
    optimizer: torch.optim.Optimizer,
    replies: Sequence[Reply],
    training: Training,
    report: Report,
) -> tuple[dict[str, float], list[Tensor]]:
    """``training.updates`` optimiser steps over these replies."""

    def reading(done: float) -> None:
        report(0.4 + 0.1 * done, "reading the feedback")

    reading(0.0)
    goals = student.goals(replies, training, reading)
    metrics: dict[str, float] = {}
    before: list[Tensor] = []
    for update in range(training.updates):
        optimizer.zero_grad(set_to_none=True)
        words = f"update {update + 1} of {training.updates}"
        told = partial(updating, report, update, training.updates)
        told(0.0)
        steps = student.gradients(replies, goals, training, told)
        norm = torch.nn.utils.clip_grad_norm_(student.parameters.values(), training.max_grad_norm or float("inf"))
        if not torch.isfinite(norm):
            raise DistillError(f"the gradient of {words} is {norm.item()}; try a lower learning_rate")
        optimizer.step()
        now = summary(steps, replies, norm)
        metrics = {"first_loss": metrics.get("first_loss", now["total_loss"]), **now}
        before = before or [step.own for step in steps]
    return metrics, before


def updating(report: Report, update: int, updates: int, done: float) -> None:
    report(0.5 + 0.5 * (update + done) / updates, f"update {update + 1} of {updates}")


def summary(steps: Sequence[Step], replies: Sequence[Reply], norm: Tensor) -> dict[str, float]:
    """Metrics of one update, under the names that users of the older service know."""
    count, losses = len(steps), [step.losses for step in steps]
    return {
        "total_loss": sum(part.total.item() for part in losses) / count,
        "distill_loss": sum(part.distill.item() for part in losses) / count,
        "kl_reg": sum(part.kl_reg.item() for part in losses) / count,
        "mean_is_ratio": sum(part.ratio.item() for part in losses) / count,
        "clip_fraction": sum(part.clipped.item() for part in losses) / count,
        "grad_norm": norm.item(),
        "tokens_processed": float(sum(len(reply.tokens) for reply in replies)),
        "batch_size": float(count),
    }
