"""A lesson for the fast engine, if it covers the model and what is asked."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from math import prod
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from supervisor.distill.batch import Encoded
from supervisor.distill.device import precision
from supervisor.distill.fast.base import GATE_UP, QKV, Files, files_of, load_decoder, stays_packed
from supervisor.distill.fast.decoder import Decoder
from supervisor.distill.fast.kernels import kind
from supervisor.distill.fast.lora import Adapter, new_adapter, read_adapter, usual
from supervisor.distill.fast.student import FastStudent, Goal, asked
from supervisor.distill.fast.thrift import Thrift, choose, need
from supervisor.distill.fast.tree import pack
from supervisor.distill.job import DistillJob
from supervisor.distill.learn import recorded
from supervisor.distill.memory import free_memory
from supervisor.distill.prepared import Prepared, encoded
from supervisor.distill.shelf import Shelf, files_key
from supervisor.distill.tokenizer import load_tokenizer

TARGETS = {*QKV, "o_proj", *GATE_UP, "down_proj"}


class FastBase:
    """What stays on the shelf: the files, the tokenizer, and the weights as they were last needed."""

    def __init__(self, path: Path, files: Files, device: torch.device) -> None:
        self.files = files
        self.tokenizer: PreTrainedTokenizerBase = load_tokenizer(path)
        self.device = device
        self.parameters = sum(prod(size) for size in files.sizes.values())
        self.dtype = precision(self.parameters, device)
        self._loaded: tuple[bool, Decoder] | None = None

    def decoder(self, *, packed: bool) -> Decoder:
        if self._loaded is None or self._loaded[0] != packed:
            self._loaded = None  # first: both at once may be too much
            self._loaded = packed, load_decoder(self.files, self.dtype, packed=packed, device=self.device)
        return self._loaded[1]

    def free(self) -> int | None:
        """Bytes for a lesson, what lies here included."""
        if self.device.type == "cuda":
            free: int | None = torch.cuda.mem_get_info(self.device)[0]
        else:
            free = free_memory()
        whole = self._loaded is not None and not self._loaded[0]
        return free if free is None or not whole else free + self.parameters * self.dtype.itemsize


def covered(job: DistillJob) -> Files | None:
    """The base model's files when the fast engine can give this lesson; else it is for the plain recipe."""
    adapters = {folder for folder in (job.parent, *(one.behaviour for one in job.samples)) if folder is not None}
    plain = job.training.rounds == 1 and set(job.lora.target_modules) <= TARGETS and all(map(usual, adapters))
    return files_of(job.base) if plain else None


@contextmanager
def prepared(job: DistillJob, files: Files, device: torch.device, shelf: Shelf) -> Iterator[Prepared[Goal]]:
    base = shelf.take((files_key(job.base), "fast", device), lambda: FastBase(job.base, files, device))
    samples = encoded(job, base.tokenizer)
    adapter = adapter_for(job, base)
    thrift = thrift_for(base, adapter, samples)
    yield Prepared(
        student=FastStudent(
            base.decoder(packed=thrift.packed), base.files, adapter, job.parent, again=thrift.again, rows=thrift.rows
        ),
        tokenizer=base.tokenizer,
        samples=samples,
        rounds=lambda _report: [recorded(samples)],
        lora=adapter.shape,
        trainer="fast",
        precision=base.dtype,
        weights=str(thrift),
        kernels=kernels_for(base),
        save=partial(Adapter.save, adapter),
    )


def kernels_for(base: FastBase) -> str:
    return (kind() if base.device.type == "cpu" else None) or "none"


def adapter_for(job: DistillJob, base: FastBase) -> Adapter:
    if job.parent is not None:
        return read_adapter(job.parent, base.files, device=base.device)
    return new_adapter(job.lora, base.files, seed=job.training.seed, device=base.device)


def thrift_for(base: FastBase, adapter: Adapter, samples: list[Encoded]) -> Thrift:
    needed = need(base.files.shape, base.parameters, adapter.shape.r, base.dtype.itemsize)
    rows = len(pack([asked(reply) for reply in recorded(samples)]).tokens)
    return choose(needed, rows, base.free(), packed=stays_packed(base.device, base.dtype))
