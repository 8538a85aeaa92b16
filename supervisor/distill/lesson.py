"""One lesson from job to files: load, train, save, convert, fingerprint."""

import resource
from time import monotonic

import torch
from transformers import PreTrainedTokenizerBase

from supervisor.distill.adapter import attach, optimizer_for, save, shape_of
from supervisor.distill.base import load_base
from supervisor.distill.batch import Encoded, encode
from supervisor.distill.device import CPU, GPU_TROUBLE, best_device, name_of
from supervisor.distill.gguf import export_adapter
from supervisor.distill.job import DistillJob, DistillResult, Probe
from supervisor.distill.passage import spelled
from supervisor.distill.step import Report, picked, reply_log_probs, train

SPELLED = 64  # reply tokens of a probe whose place in the text is worked out


def run_lesson(job: DistillJob, report: Report, *, import_seconds: float = 0.0) -> DistillResult:
    """Train on the job's samples and fill ``job.out``: on the best device, and on the CPU when that fails.

    Raises DistillError or GgufError; what lies in ``job.out`` is then of no use.
    """
    torch.set_num_threads(job.threads)
    device = best_device()
    try:
        return lesson_on(device, job, report, import_seconds)
    except GPU_TROUBLE as exc:
        if device == CPU:
            raise
        problem = str(exc).splitlines()[0]
    report(0.05, f"the CPU takes over from {name_of(device)}: {problem}")
    return lesson_on(CPU, job, report, import_seconds)


def lesson_on(device: torch.device, job: DistillJob, report: Report, import_seconds: float) -> DistillResult:
    torch.manual_seed(job.training.seed)
    started = monotonic()
    report(0.05, "loading the base model" if device == CPU else f"loading the base model on {name_of(device)}")
    base, tokenizer = load_base(job.base)
    model = attach(base.to(device), job.parent, job.lora)
    samples = [encode(sample, tokenizer, max_prompt=job.training.max_prompt_tokens) for sample in job.samples]
    optimizer, steps = optimizer_for(model, job.parent, learning_rate=job.training.learning_rate)
    loaded = monotonic()

    before = fingerprints(model, samples)
    metrics = train(model, optimizer, samples, job.training, lambda done, step: report(0.15 + 0.7 * done, step))
    steps += job.training.updates * job.training.rounds
    after = fingerprints(model, samples)
    trained = monotonic()

    report(0.9, "saving the adapter")
    save(model, optimizer, steps, job.out)
    export_adapter(job.out, job.out / "adapter.gguf", base=job.base_gguf)
    saved = monotonic()
    report(1.0, "trained")
    return DistillResult(
        job=job.id,
        step=steps,
        metrics={**metrics, "prompt_tokens_cut": float(sum(sample.cut for sample in samples))},
        probes=tuple(
            probe(tokenizer, sample, was, is_now) for sample, was, is_now in zip(samples, before, after, strict=True)
        ),
        lora=shape_of(model),
        seconds={
            "import": import_seconds,
            "load": loaded - started,
            "train": trained - loaded,
            "save": saved - trained,
        },
        peak_rss=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
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


@torch.no_grad()
def fingerprints(model: torch.nn.Module, samples: list[Encoded]) -> list[tuple[float, ...]]:
    """Log-probability of each reply token under the model as it is now."""
    return [
        tuple(picked(reply_log_probs(model, sample.prompt, sample.reply), sample.reply).tolist()) for sample in samples
    ]
