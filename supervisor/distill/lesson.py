"""One lesson from job to files: load, train, save, convert, fingerprint."""

import resource
from functools import partial
from time import monotonic

import peft
import torch
import transformers
from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from supervisor.distill.adapter import attached, optimizer_for, save, shape_of
from supervisor.distill.base import load_base
from supervisor.distill.batch import Encoded, cuts, encode
from supervisor.distill.device import CPU, GPU_TROUBLE, best_device, name_of
from supervisor.distill.gguf import export_adapter
from supervisor.distill.job import DistillJob, DistillResult, Probe, Provenance
from supervisor.distill.passage import spelled
from supervisor.distill.shelf import Shelf, files_key
from supervisor.distill.step import Report, picked, reply_log_probs, train

SPELLED = 64  # reply tokens of a probe whose place in the text is worked out


def run_lesson(
    job: DistillJob, report: Report, *, import_seconds: float = 0.0, shelf: Shelf | None = None
) -> DistillResult:
    """Train on the job's samples and fill ``job.out``: on the best device, and on the CPU when that fails.

    ``shelf``: where the base model may lie already, and is left. Raises DistillError or GgufError; what lies in
    ``job.out``, and on the shelf, is then of no use.
    """
    torch.set_num_threads(job.threads)
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
    report(0.05, "loading the base model" if device == CPU else f"loading the base model on {name_of(device)}")
    base, tokenizer = shelf.take(files_key(job.base), partial(load_base, job.base))
    torch.manual_seed(job.training.seed)  # after the loading, which may draw numbers and may be left out
    with attached(base.to(device), job.parent, job.lora) as model:
        return taught(model, tokenizer, job, report, {"import": import_seconds, "load": monotonic() - started})


def taught(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    job: DistillJob,
    report: Report,
    seconds: dict[str, float],
) -> DistillResult:
    started = monotonic()
    limits = {"max_prompt": job.training.max_prompt_tokens, "max_reply": job.training.max_reply_tokens}
    samples = [encode(sample, tokenizer, **limits) for sample in job.samples]
    optimizer, steps = optimizer_for(model, job.parent, learning_rate=job.training.learning_rate)

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
        metrics={**metrics, **cuts(samples)},
        probes=tuple(
            probe(tokenizer, sample, was, is_now) for sample, was, is_now in zip(samples, before, after, strict=True)
        ),
        lora=shape_of(model),
        seconds={**seconds, "train": trained - started, "save": saved - trained},
        peak_rss=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        made_with=made_with(model, job),
    )


def made_with(model: PeftModel, job: DistillJob) -> Provenance:
    return Provenance(
        trainer="recipe",
        precision=str(model.dtype).removeprefix("torch."),
        device=name_of(model.device),
        instructions=torch.backends.cpu.get_cpu_capability(),
        threads=job.threads,
        seed=job.training.seed,
        torch=torch.__version__,
        transformers=transformers.__version__,
        peft=peft.__version__,
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
