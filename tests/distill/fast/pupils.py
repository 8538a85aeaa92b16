"""The same model, adapter and replies for both trainers."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor

from supervisor.distill.fast.base import files_of, load_decoder
from supervisor.distill.fast.lora import read_adapter
from supervisor.distill.fast.student import FastStudent
from supervisor.distill.gguf import export_model
from supervisor.distill.job import Training
from supervisor.distill.step import PlainStudent
from supervisor.distill.student import Reply, Student
from tests.distill import random_models
from tests.distill.random_models import random_adapter

CPU = torch.device("cpu")
WIDE = {"initializer_range": 0.02, "hidden_size": 256, "intermediate_size": 512}  # as real models begin


@dataclass(frozen=True)
class Pair:
    """A folder with a model, ``model.gguf`` of the same numbers, and an adapter that has moved."""

    folder: Path

    @property
    def adapter(self) -> Path:
        return self.folder / "adapter"

    def plain(self, dtype: torch.dtype = torch.float32) -> PlainStudent:
        base = random_models.loaded(self.folder, dtype)
        return PlainStudent(PeftModel.from_pretrained(base, self.adapter, is_trainable=True).eval())

    def fast(
        self,
        dtype: torch.dtype = torch.float32,
        *,
        packed: bool = False,
        again: int = 0,
        rows: int = 10_000,
        start: Path | None = None,
        file: str | None = None,
    ) -> FastStudent:
        files = files_of(self.folder / (file or ("model.gguf" if packed else "")))
        assert files is not None, "the fast engine should cover this model"
        decoder = load_decoder(files, dtype, packed=packed, device=CPU)
        return FastStudent(decoder, files, read_adapter(self.adapter, files, device=CPU), start, again=again, rows=rows)


def pair(kind: str, folder: Path, *, rounded: bool = False, **shape: object) -> Pair:
    """``rounded``: the weights are numbers that bfloat16 has."""
    torch.manual_seed(1)
    model = random_models.of_kind(kind, folder, **shape)
    if rounded:
        model.bfloat16().float().save_pretrained(folder)
    export_model(folder, folder / "model.gguf", dtype="f32")
    modules = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    random_adapter(model, folder / "adapter", target_modules=modules)
    return Pair(folder)


def replies(count: int = 3, *, system: int = 20, behaviour: Path | None = None) -> list[Reply]:
    """Chats that begin alike, with feedback written into them."""
    draw = random.Random(5)

    def tokens(length: int) -> list[int]:
        return [draw.randrange(1, 390) for _ in range(length)]

    shared = tokens(system)
    made = []
    for index in range(count):
        prompt = [*shared, *tokens(15 + index)]
        hindsight = [*prompt[:-3], *tokens(9), *prompt[-3:]]
        made.append(Reply(prompt, hindsight, tokens(10 + 3 * index), behaviour))
    return made


@dataclass(frozen=True)
class Outcome:
    losses: list[float]
    own: list[Tensor]
    grads: dict[str, Tensor]


def silent(_done: float) -> None:
    pass


def outcome(student: Student[Any], said: Sequence[Reply], training: Training) -> Outcome:
    """One update's losses and gradients, in float32."""
    goals = student.goals(said, training, silent)
    steps = student.gradients(said, goals, training, silent)
    grads = {name: one.grad.float() for name, one in student.parameters.items() if one.grad is not None}
    return Outcome([step.losses.total.item() for step in steps], [step.own for step in steps], grads)


def apart(one: Outcome, other: Outcome) -> float:
    """The largest relative error of a matrix's gradient; 1 when one of them has no such matrix."""
    if one.grads.keys() != other.grads.keys():
        return 1.0
    return max(
        float((one.grads[name] - grad).norm() / grad.norm().clamp(min=1e-30)) for name, grad in other.grads.items()
    )


def total_error(ours: Outcome, exact: Outcome) -> float:
    """Of all matrices' gradients as one vector, relative."""
    wrong = torch.stack([(ours.grads[name] - grad).norm() for name, grad in exact.grads.items()]).norm()
    return float(wrong / torch.stack([grad.norm() for grad in exact.grads.values()]).norm())
