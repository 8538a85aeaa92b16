"""A lesson that is ready to be trained, whichever of the two trainers it is for."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal

import torch
from transformers import PreTrainedTokenizerBase

from supervisor.distill.batch import Encoded, encode
from supervisor.distill.job import DistillJob, LoraShape
from supervisor.distill.student import Goal, Reply, Report, Student


@dataclass(frozen=True)
class Prepared(Generic[Goal]):
    student: Student[Goal]
    tokenizer: PreTrainedTokenizerBase
    samples: Sequence[Encoded]
    rounds: Callable[[Report], Iterable[Sequence[Reply]]]
    """What is learned from, round by round; later ones are written when they are asked for."""
    lora: LoraShape
    trainer: Literal["recipe", "fast"]
    precision: torch.dtype
    weights: str
    kernels: str
    """Both: see ``job.Provenance``."""
    save: Callable[[Path], None]
    """Write the adapter's files, as PEFT loads them, into a folder."""


def encoded(job: DistillJob, tokenizer: PreTrainedTokenizerBase) -> list[Encoded]:
    limits = {"max_prompt": job.training.max_prompt_tokens, "max_reply": job.training.max_reply_tokens}
    return [encode(sample, tokenizer, **limits) for sample in job.samples]
