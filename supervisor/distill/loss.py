"""The objective of a lesson: pure functions on tensors. ``sdpo`` puts it together, for every trainer.

Source: self-distillation policy optimisation (SDPO), arXiv 2601.20802: the student is pulled towards the same model
that has read the feedback, on the tokens of the reply that was given. The clipped importance ratio is PPO's
(arXiv 1707.06347), the KL estimator "k3" is Schulman's (joschu.net/blog/kl-approx.html).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from supervisor.distill.job import Training
from supervisor.distill.support import with_tail


@dataclass(frozen=True)
class Target:
    """What the student is compared with on one reply of T tokens. No gradients."""

    support: Tensor  # (T, K) token ids, see supervisor.distill.support
    teacher: Tensor  # (T, K+1) log-probabilities, the tail last
    base: Tensor  # (T,) log-probability of each reply token under the bare base
    behaviour: Tensor  # (T,) the same under the version that wrote the reply


@dataclass(frozen=True)
class Losses:
    """One reply's part of an update; scalars, averaged over its tokens. ``total`` carries the gradient."""

    total: Tensor
    distill: Tensor
    kl_reg: Tensor
    ratio: Tensor
    clipped: Tensor


def sdpo(chosen: Tensor, own: Tensor, goal: Target, training: Training) -> Losses:
    """Importance-weighted divergence to the teacher plus the weighted KL to the base, mean over the reply's tokens.

    chosen  (T, K)  the student's log-probabilities at ``goal.support``, float32; carries the gradient
    own     (T,)    those of the reply's tokens, float32; carries the gradient
    """
    apart = divergence(with_tail(chosen), goal.teacher, alpha=training.alpha)  # (T,)
    ratio, clipped = importance_ratio(own, goal.behaviour, clip=training.is_clip)  # (T,), (T,)
    distill = (ratio * apart).mean()
    kl_reg = k3(own, goal.base).mean()
    return Losses(distill + training.kl_reg_weight * kl_reg, distill, kl_reg, ratio.mean(), clipped.float().mean())


def divergence(student: Tensor, teacher: Tensor, *, alpha: float) -> Tensor:
    """Generalised Jensen-Shannon divergence per token, in nats.

    student  (T, K)  log-probabilities over a shared support, float32; carries the gradient
    teacher  (T, K)  the same tokens
    returns  (T,)    alpha=0: KL(teacher, student); alpha=1: KL(student, teacher);
                     between: both against the mixture (1-alpha)*student + alpha*teacher, weighted 1-alpha and alpha

    Near alpha=0 the mixture keeps the gradient of KL(teacher, student) where the student is certain and wrong; at
    alpha=0.5 that gradient all but vanishes, as in GANs. Divided by alpha*(1-alpha) the value would tend to the ends;
    it is left as published.
    """
    if alpha == 0.0:
        return kl(teacher, student)
    if alpha == 1.0:
        return kl(student, teacher)
    mixture = torch.logaddexp(student + math.log1p(-alpha), teacher + math.log(alpha))  # (T, K)
    return (1 - alpha) * kl(student, mixture) + alpha * kl(teacher, mixture)


def kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(p, q) in nats from log-probabilities: (T, K) -> (T,). A token that p excludes adds nothing."""
    return torch.where(p.isneginf(), 0.0, p.exp() * (p - q)).sum(-1)


def importance_ratio(student: Tensor, behaviour: Tensor, *, clip: float) -> tuple[Tensor, Tensor]:
    """How much likelier the student finds each token than the version that wrote it, cut at ``clip``.

    student    (T,)  log-probabilities now
    behaviour  (T,)  log-probabilities under the version that wrote the reply
    returns    (T,) ratio without gradient, (T,) whether it was clipped
    """
    ratio = (student.detach() - behaviour).exp()  # (T,)
    return ratio.clamp(max=clip), ratio > clip


def k3(student: Tensor, base: Tensor) -> Tensor:
    """Estimate of KL(student, base) per token from the tokens' own log-probabilities; never negative. (T,) -> (T,)"""
    log_ratio = base - student  # (T,)
    return log_ratio.exp() - 1 - log_ratio
