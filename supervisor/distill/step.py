"""The recipe of a lesson, top to bottom: score, loss, backward per sample, update.

This is the plain version on transformers and PEFT modules: any architecture, one sample at a time, no padding.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from peft import PeftModel
from torch import Tensor

from supervisor.distill.adapter import trainable, wearing
from supervisor.distill.batch import Encoded
from supervisor.distill.job import Training
from supervisor.distill.loss import divergence, importance_ratio, k3, with_tail
from supervisor.errors import DistillError

Report = Callable[[float, str], None]


@dataclass(frozen=True)
class Target:
    """What the student is compared with on one sample; T reply tokens, K teacher tokens. No gradients."""

    support: Tensor  # (T, K) token ids: the teacher's most likely ones
    teacher: Tensor  # (T, K+1) log-probabilities, the tail last
    base: Tensor  # (T,) log-probability of each reply token under the bare base
    behaviour: Tensor  # (T,) the same under the version that wrote the reply


@dataclass(frozen=True)
class Losses:
    """One sample's part of an update; scalars, averaged over reply tokens."""

    total: Tensor
    distill: Tensor
    kl_reg: Tensor
    ratio: Tensor
    clipped: Tensor


def reply_log_probs(model: PeftModel, context: Sequence[int], reply: Sequence[int]) -> Tensor:
    """Log-probabilities over the vocabulary at each reply token, float32: (T, V)."""
    tokens = torch.tensor([[*context, *reply]])  # (1, P+T)
    logits = model(input_ids=tokens, use_cache=False, logits_to_keep=len(reply) + 1).logits  # (1, T+1, V)
    return torch.log_softmax(logits[0, :-1].float(), dim=-1)  # (T, V)


def picked(log_probs: Tensor, reply: Sequence[int]) -> Tensor:
    """The reply tokens' own log-probabilities: (T, V) -> (T,)."""
    return log_probs.gather(-1, torch.tensor(reply)[:, None])[:, 0]


@torch.no_grad()
def target(model: PeftModel, sample: Encoded, *, top_k: int) -> Target:
    """Score the reply with the frozen base: once having read the feedback (the teacher), once not.

    The support is the teacher's top-k: what the feedback asks for is in it by construction, also where the student
    gives it next to nothing. (The student's top-k would miss exactly that.)
    """
    with wearing(model, None, name="base"):
        teacher = reply_log_probs(model, sample.hindsight, sample.reply)  # (T, V)
        base = picked(reply_log_probs(model, sample.prompt, sample.reply), sample.reply)  # (T,)
    support = teacher.topk(min(top_k, teacher.shape[-1] - 1), dim=-1).indices  # (T, K)
    behaviour = base
    if sample.sample.behaviour is not None:
        with wearing(model, sample.sample.behaviour, name=sample.sample.behaviour.name):
            behaviour = picked(reply_log_probs(model, sample.prompt, sample.reply), sample.reply)  # (T,)
    return Target(support, with_tail(teacher, support), base, behaviour)


def losses(model: PeftModel, sample: Encoded, goal: Target, training: Training) -> Losses:
    """SDPO's loss on one sample: importance-weighted divergence to the teacher, plus KL to the base."""
    log_probs = reply_log_probs(model, sample.prompt, sample.reply)  # (T, V)
    own = picked(log_probs, sample.reply)  # (T,)
    apart = divergence(with_tail(log_probs, goal.support), goal.teacher, alpha=training.alpha)  # (T,)
    ratio, clipped = importance_ratio(own, goal.behaviour, clip=training.is_clip)  # (T,), (T,)
    distill = (ratio * apart).mean()
    kl_reg = k3(own, goal.base).mean()
    return Losses(distill + training.kl_reg_weight * kl_reg, distill, kl_reg, ratio.mean(), clipped.float().mean())


def train(
    model: PeftModel, optimizer: torch.optim.Optimizer, samples: Sequence[Encoded], training: Training, report: Report
) -> dict[str, float]:
    """Make ``training.updates`` optimiser steps over the batch; the metrics are those of the last one.

    The loss is the mean over samples of each sample's mean over reply tokens. Raises DistillError when it stops
    being a number: nothing of such a lesson is kept.
    """
    goals = []
    for index, sample in enumerate(samples):
        report(0.2 * index / len(samples), f"reading the feedback {index + 1} of {len(samples)}")
        goals.append(target(model, sample, top_k=training.teacher_top_k))
    parameters = list(trainable(model).values())
    metrics: dict[str, float] = {}
    for update in range(training.updates):
        optimizer.zero_grad(set_to_none=True)
        parts: list[Losses] = []
        for sample, goal in zip(samples, goals, strict=True):
            done = (update * len(samples) + len(parts)) / (training.updates * len(samples))
            report(0.2 + 0.8 * done, f"update {update + 1} of {training.updates}")
            part = losses(model, sample, goal, training)
            torch.autograd.backward(part.total / len(samples))
            parts.append(part)
        norm = torch.nn.utils.clip_grad_norm_(parameters, training.max_grad_norm or float("inf"))
        if not torch.isfinite(norm):
            raise DistillError(f"the gradient of update {update + 1} is {norm.item()}; try a lower learning_rate")
        optimizer.step()
        now = summary(parts, samples, norm)
        metrics = {"first_loss": metrics.get("first_loss", now["total_loss"]), **now}
    return metrics


def summary(parts: Sequence[Losses], samples: Sequence[Encoded], norm: Tensor) -> dict[str, float]:
    """Metrics of one update, under the names that users of the older service know."""
    count = len(parts)
    return {
        "total_loss": sum(part.total.item() for part in parts) / count,
        "distill_loss": sum(part.distill.item() for part in parts) / count,
        "kl_reg": sum(part.kl_reg.item() for part in parts) / count,
        "mean_is_ratio": sum(part.ratio.item() for part in parts) / count,
        "clip_fraction": sum(part.clipped.item() for part in parts) / count,
        "grad_norm": norm.item(),
        "tokens_processed": float(sum(len(sample.reply) for sample in samples)),
        "batch_size": float(count),
    }
