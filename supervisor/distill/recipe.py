"""A lesson for the plain recipe: any model that transformers knows, wrapped by PEFT."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch

from supervisor.distill.adapter import attached, save, shape_of
from supervisor.distill.base import load_base
from supervisor.distill.job import DistillJob
from supervisor.distill.loss import Target
from supervisor.distill.packed import PackedLinear
from supervisor.distill.prepared import Prepared, encoded
from supervisor.distill.shelf import Shelf, files_key
from supervisor.distill.step import PlainStudent, rounds


@contextmanager
def prepared(job: DistillJob, device: torch.device, shelf: Shelf) -> Iterator[Prepared[Target]]:
    """DistillError when there is no usable base model. Afterwards the base on the shelf is bare again."""
    load = partial(load_base, job.base, device=device, context=job.context)
    base, tokenizer = shelf.take((files_key(job.base), job.context, "recipe", device), load)
    torch.manual_seed(job.training.seed)  # after the loading, which may draw numbers and may be left out
    with attached(base, job.parent, job.lora) as model:
        samples = encoded(job, tokenizer)
        yield Prepared(
            student=PlainStudent(model),
            tokenizer=tokenizer,
            samples=samples,
            rounds=partial(rounds, model, samples, job.training),
            lora=shape_of(model),
            trainer="recipe",
            precision=model.dtype,
            weights="packed" if any(isinstance(module, PackedLinear) for module in base.modules()) else "whole",
            kernels="none",
            save=partial(save, model),
        )
