"""The recipe of a lesson, top to bottom: score, loss, backward per reply, update; practise, and again.

This is the plain version on transformers and PEFT modules: any architecture, one sample at a time, no padding.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

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
class Reply:
    """A reply to learn from, between the two contexts it is scored in; token ids."""

    prompt: Sequence[int]
    hindsight: Sequence[int]
    tokens: Sequence[int]
    behaviour: Path | None  # the adapter folder that wrote it, None: the bare base; STUDENT: the model itself, just now


STUDENT = Path("student")  # no folder: the reply was written in this lesson


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
    tokens = torch.tensor([[*context, *reply]], device=model.device)  # (1, P+T)
    logits = model(input_ids=tokens, use_cache=False, logits_to_keep=len(reply) + 1).logits  # (1, T+1, V)
    return torch.log_softmax(logits[0, :-1].float(), dim=-1)  # (T, V)


def picked(log_probs: Tensor, reply: Sequence[int]) -> Tensor:
    """The reply tokens' own log-probabilities: (T, V) -> (T,)."""
    return log_probs.gather(-1, torch.tensor(reply, device=log_probs.device)[:, None])[:, 0]


@torch.no_grad()
def target(model: PeftModel, reply: Reply, *, top_k: int) -> Target:
    """Score the reply with the frozen base: once having read the feedback (the teacher), once not.

    The support is the teacher's top-k: what the feedback asks for is in it by construction, also where the student
    gives it next to nothing. (The student's top-k would miss exactly that.)
    """
    with wearing(model, None, name="base"):
        teacher = reply_log_probs(model, reply.hindsight, reply.tokens)  # (T, V)
        base = picked(reply_log_probs(model, reply.prompt, reply.tokens), reply.tokens)  # (T,)
    support = teacher.topk(min(top_k, teacher.shape[-1] - 1), dim=-1).indices  # (T, K)
    if reply.behaviour is None:
        behaviour = base
    elif reply.behaviour == STUDENT:
        behaviour = picked(reply_log_probs(model, reply.prompt, reply.tokens), reply.tokens)  # (T,)
    else:
        with wearing(model, reply.behaviour, name=reply.behaviour.name):
            behaviour = picked(reply_log_probs(model, reply.prompt, reply.tokens), reply.tokens)  # (T,)
    return Target(support, with_tail(teacher, support), base, behaviour)


def losses(model: PeftModel, reply: Reply, goal: Target, training: Training) -> Losses:
    """SDPO's loss on one reply: importance-weighted divergence to the teacher, plus KL to the base."""
    log_probs = reply_log_probs(model, reply.prompt, reply.tokens)  # (T, V)
    own = picked(log_probs, reply.tokens)  # (T,)
    apart = divergence(with_tail(log_probs, goal.support), goal.teacher, alpha=training.alpha)  # (T,)
    ratio, clipped = importance_ratio(own, goal.behaviour, clip=training.is_clip)  # (T,), (T,)
    distill = (ratio * apart).mean()
    kl_reg = k3(own, goal.base).mean()
    return Losses(distill + training.kl_reg_weight * kl_reg, distill, kl_reg, ratio.mean(), clipped.float().mean())


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
    goals = []
    for index, reply in enumerate(replies):
        report(0.4 + 0.1 * index / len(replies), f"reading the feedback {index + 1} of {len(replies)}")
        goals.append(target(model, reply, top_k=training.teacher_top_k))
    parameters = list(trainable(model).values())
    metrics: dict[str, float] = {}
    for update in range(training.updates):
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
