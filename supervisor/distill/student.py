"""What a lesson needs of whatever computes it: the plain recipe (``step``), or the fast engine (``fast.student``)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from torch import Tensor
from torch.nn import Parameter

from supervisor.distill.job import Training
from supervisor.distill.loss import Losses

STUDENT = Path("student")  # no folder: the reply was written in this lesson

Report = Callable[[float, str], None]
Told = Callable[[float], None]  # which share of the work at hand is done


@dataclass(frozen=True)
class Reply:
    """A reply to learn from, between the two contexts it is scored in; token ids."""

    prompt: Sequence[int]
    hindsight: Sequence[int]
    tokens: Sequence[int]
    behaviour: Path | None  # the adapter folder that wrote it, None: the bare base; STUDENT: the model itself, just now


@dataclass(frozen=True)
class Step:
    """One reply's part in an update."""

    losses: Losses
    own: Tensor  # (T,) what the student gave the reply's tokens before the update, nats


Goal = TypeVar("Goal")  # what a student compares itself with on one reply; its own affair


class Student(Protocol[Goal]):
    """A base model with an adapter that is trained."""

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        """The adapter's matrices, by PEFT's names."""

    def goals(self, replies: Sequence[Reply], training: Training, told: Told) -> list[Goal]:
        """One for each reply; before the first update."""

    def gradients(self, replies: Sequence[Reply], goals: Sequence[Goal], training: Training, told: Told) -> list[Step]:
        """Collect the gradient of the mean loss over these replies, a step for each."""

    def log_probs(self, replies: Sequence[Reply]) -> list[Tensor]:
        """Of each reply's tokens under the student as it is now: (T,) each, nats."""
