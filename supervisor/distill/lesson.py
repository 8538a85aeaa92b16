"""One lesson from job to files: load, train, save, convert, fingerprint."""

import resource
from collections.abc import Sequence
from contextlib import AbstractContextManager
from importlib.metadata import version
from time import monotonic
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from supervisor.distill.batch import Encoded, cuts
from supervisor.distill.device import CPU, GPU_TROUBLE, best_device, compute_with, multiply_float32_quickly, name_of
from supervisor.distill.fast import lesson as fast
from supervisor.distill.gguf import check_served, export_adapter
from supervisor.distill.job import DistillJob, DistillResult, Probe, Provenance
from supervisor.distill.learn import recorded, train
from supervisor.distill.optimizer import optimizer_for, save_optimizer
from supervisor.distill.passage import spelled
from supervisor.distill.prepared import Prepared
from supervisor.distill.shelf import Shelf
from supervisor.distill.student import Goal, Report

SPELLED = 64  # reply tokens of a probe whose place in the text is worked out


def run_lesson(
    job: DistillJob, report: Report, *, import_seconds: float = 0.0, shelf: Shelf | None = None
) -> DistillResult:
    """Train on the job's samples and fill ``job.out``: on the best device, and on the CPU when that fails.

    ``shelf``: where the base model may lie already, and is left. Raises DistillError or GgufError; what lies in
    ``job.out``, and on the shelf, is then of no use.
    """
    compute_with(job.threads)
    multiply_float32_quickly()
    shelf = shelf or Shelf()
    device = best_device()
    try:
        return lesson_on(device, job, report, import_seconds, shelf)
    except GPU_TROUBLE as exc:
        if device == CPU:
            raise
        problem = str(exc).splitlines()[0]
    report(0.05, f"the CPU takes over from {name_of(device)}: {problem}")
    shelf.drop()  # half wrapped, half moved: nobody knows
    return lesson_on(CPU, job, report, import_seconds, shelf)


def lesson_on(
    device: torch.device, job: DistillJob, report: Report, import_seconds: float, shelf: Shelf
) -> DistillResult:
    started = monotonic()
    check_served(job.base_gguf)
    report(0.05, "loading the base model" if device == CPU else f"loading the base model on {name_of(device)}")
    with trainer_for(job, device, shelf) as lesson:
        seconds = {"import": import_seconds, "load": monotonic() - started}
        return taught(lesson, device, job, report, seconds)


def trainer_for(job: DistillJob, device: torch.device, shelf: Shelf) -> AbstractContextManager[Prepared[Any]]:
    """The fast engine where it covers the model; else the plain recipe."""
    files = fast.covered(job)
    if files is not None:
        return fast.prepared(job, files, device, shelf)
    from supervisor.distill import recipe  # noqa: PLC0415 - transformers' models and PEFT take seconds to import

    return recipe.prepared(job, device, shelf)


def taught(
    lesson: Prepared[Goal], device: torch.device, job: DistillJob, report: Report, seconds: dict[str, float]
) -> DistillResult:
    started = monotonic()
    student, training = lesson.student, job.training
    optimizer, steps = optimizer_for(student.parameters, job.parent, learning_rate=training.learning_rate)

    def told(done: float, step: str) -> None:
        report(0.15 + 0.7 * done, step)

    metrics, before = train(student, optimizer, lesson.rounds(told), training, told)
    steps += training.updates * training.rounds
    after = student.log_probs(recorded(lesson.samples))
    trained = monotonic()

    report(0.9, "saving the adapter")
    lesson.save(job.out)
    save_optimizer(optimizer, student.parameters, steps, job.out)
    export_adapter(job.out, job.out / "adapter.gguf", base=job.base_gguf)
    saved = monotonic()
    report(1.0, "trained")
    return DistillResult(
        job=job.id,
        step=steps,
        metrics={**metrics, **cuts(lesson.samples)},
        probes=probes(lesson.tokenizer, lesson.samples, before, after),
        lora=lesson.lora,
        seconds={**seconds, "train": trained - started, "save": saved - trained},
        peak_rss=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        made_with=made_with(lesson, device, job),
    )


def made_with(lesson: Prepared[Goal], device: torch.device, job: DistillJob) -> Provenance:
    return Provenance(
        trainer=lesson.trainer,
        precision=str(lesson.precision).removeprefix("torch."),
        device=name_of(device),
        weights=lesson.weights,
        kernels=lesson.kernels,
        instructions=torch.backends.cpu.get_cpu_capability(),
        threads=job.threads,
        seed=job.training.seed,
        torch=torch.__version__,
        transformers=version("transformers"),
        peft=version("peft"),
    )


def probes(
    tokenizer: PreTrainedTokenizerBase, samples: Sequence[Encoded], before: Sequence[Tensor], after: Sequence[Tensor]
) -> tuple[Probe, ...]:
    return tuple(
        probe(tokenizer, sample, tuple(was.tolist()), tuple(now.tolist()))
        for sample, was, now in zip(samples, before, after, strict=True)
    )


def probe(
    tokenizer: PreTrainedTokenizerBase, sample: Encoded, before: tuple[float, ...], after: tuple[float, ...]
) -> Probe:
    """Spelled out around the tokens that moved most: nobody asks for the others."""
    moved = sorted(range(len(after)), key=lambda position: -abs(after[position] - before[position]))
    text = spelled(tokenizer, sample.prompt, sample.reply, set(moved[:SPELLED]))
    return Probe(
        sample=sample.sample.id,
        prompt=sample.prompt,
        token_ids=sample.reply,
        before=before,
        after=after,
        text=text.text,
        starts=text.starts,
        pieces=text.pieces,
    )
