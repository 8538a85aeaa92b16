"""The objective written down as its formula says: float64, one token after the other, the whole vocabulary at hand."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from supervisor.distill.job import Training


@dataclass(frozen=True)
class Scene:
    """Logits of all who have a view on one reply: (T, V) each; the student's carry the gradient."""

    student: Tensor
    teacher: Tensor
    base: Tensor
    behaviour: Tensor
    reply: Sequence[int]


def sdpo(scene: Scene, training: Training) -> Tensor:
    """The mean over the reply's tokens of ratio * divergence + weight * k3."""
    return torch.stack([at_token(scene, place, training) for place in range(len(scene.reply))]).mean()


def at_token(scene: Scene, place: int, training: Training) -> Tensor:
    written = scene.reply[place]
    student = scene.student[place].double().softmax(-1)  # (V,)
    teacher = scene.teacher[place].double().softmax(-1)  # (V,)
    base = scene.base[place].double().softmax(-1)[written]
    behaviour = scene.behaviour[place].double().softmax(-1)[written]
    chooser = teacher if training.support == "teacher" else student
    inside = chooser.detach().topk(training.teacher_top_k).indices
    ratio = min(student.detach()[written] / behaviour, torch.tensor(training.is_clip))
    k3 = base / student[written] - 1 - (base / student[written]).log()
    apart = divergence(bucketed(student, inside), bucketed(teacher, inside), training.alpha)
    return ratio * apart + training.kl_reg_weight * k3


def bucketed(p: Tensor, inside: Tensor) -> Tensor:
    """The chosen tokens' probabilities and the sum of all others': (V,) -> (K+1,)."""
    outside = torch.ones(len(p), dtype=torch.bool)
    outside[inside] = False
    return torch.cat([p[inside], p[outside].sum()[None]])


def divergence(p: Tensor, q: Tensor, alpha: float) -> Tensor:
    if alpha == 0:
        return (q * (q / p).log()).sum()
    if alpha == 1:
        return (p * (p / q).log()).sum()
    middle = (1 - alpha) * p + alpha * q
    return (1 - alpha) * (p * (p / middle).log()).sum() + alpha * (q * (q / middle).log()).sum()
