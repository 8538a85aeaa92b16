"""The contract of a lesson: plain data in, plain data out, no torch.

A job folder holds ``job.json`` (DistillJob); the trainer appends lines to ``progress.jsonl`` (Progress) and ends by
writing ``result.json`` (DistillResult) or ``error.json`` (DistillFailure). The adapter files go to ``DistillJob.out``.
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

JOB, PROGRESS, RESULT, FAILURE = "job.json", "progress.jsonl", "result.json", "error.json"
HUB = "hf:"  # begins the name of a base model that is fetched from the Hugging Face hub

Message = dict[str, Any]


class Record(BaseModel):
    """Crosses a process: frozen, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Training(Record):
    """The knobs of one lesson; ranges are those that users of the older service know."""

    learning_rate: float = Field(gt=0)
    alpha: float = Field(ge=0, le=1)
    """0: forward KL (teacher to student), 1: reverse KL, between: generalised Jensen-Shannon divergence."""
    is_clip: float = Field(5.0, ge=1, le=20)
    """Upper bound of the importance ratio between the student and the version that wrote the reply."""
    max_grad_norm: float = Field(1.0, ge=0)
    """Gradients longer than this are scaled down to it; 0 switches that off."""
    kl_reg_weight: float = Field(ge=0, le=1)
    """Weight of the KL divergence to the frozen base."""
    teacher_top_k: int = Field(100, ge=10, le=100)
    """Tokens of the support, which are compared one by one; the rest is one tail bucket."""
    support: Literal["teacher", "student"] = "teacher"
    """Whose most likely tokens these are. The teacher's hold what the feedback asks for by construction, also where a
    certain student gives it next to nothing; the student's miss exactly that, and then only the tail, whose gradient
    names no token, pulls there. The student's (as in the reference code of arXiv 2601.20802) hold what it is about to
    say; what it says and the teacher would not is, with the teacher's, pushed down through the tail."""
    teacher_mode: Literal["self"] = "self"
    """Who reads the feedback: the frozen base itself. The seam for others is ``supervisor.distill.step.Teacher``."""
    updates: int = Field(1, ge=1, le=64)
    """Optimiser steps over the same batch, in each round."""
    rounds: int = Field(1, ge=1, le=16)
    """The first learns from the recorded replies; each further one from fresh replies of the student, so far, to the
    same prompts. Whether that helps depends on the model: measure before you raise it."""
    rollouts: int = Field(2, ge=1, le=8)
    """Fresh replies per prompt in each further round."""
    max_prompt_tokens: int = Field(4096, ge=64)
    """A longer prompt keeps its first quarter and its last three quarters of this many tokens. The feedback, which
    only the teacher reads, is not counted and never cut."""
    max_reply_tokens: int = Field(2048, ge=16)
    """Of a longer reply the first so many tokens are learned from: memory grows with each."""
    seed: int = 0


class LoraShape(Record):
    """The shape of a new adapter; an adapter that exists keeps its own."""

    r: int = Field(32, ge=4, le=128)
    alpha: int = Field(64, ge=8, le=256)
    target_modules: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class Sample(Record):
    """One reply that a person said something about."""

    id: str
    messages: tuple[Message, ...]
    """What the model was asked, as the student sees it."""
    hindsight: tuple[Message, ...]
    """The same with the feedback written in, as the teacher sees it."""
    reply: Message
    """The assistant's message: content, reasoning_content, tool_calls."""
    closed: bool = True
    """False when the reply was cut off: its end is then not trained on."""
    reply_tokens: int | None = None
    """How many the engine sampled, the closing one included; None: nobody counted."""
    tools: tuple[dict[str, Any], ...] = ()
    template: dict[str, Any] = {}
    """What the chat template was told beside messages and tools, ``enable_thinking`` for one."""
    behaviour: Path | None = None
    """The adapter folder that wrote the reply; None: the bare base."""


class DistillJob(Record):
    id: str
    base: Path
    """A Hugging Face model folder, or a GGUF file (its name need not end so), or ``hf:owner/name`` on its hub."""
    base_gguf: Path
    """The model as it is served; the adapter's shapes are checked against it."""
    parent: Path | None
    """The adapter folder to continue from; None: a new adapter."""
    out: Path
    """An empty folder for the adapter's files."""
    samples: tuple[Sample, ...] = Field(min_length=1)
    training: Training
    lora: LoraShape
    threads: int = Field(ge=1)
    context: int | None = None
    """Tokens that the engine keeps, where a model's rotation depends on that (Phi-3)."""


class Progress(Record):
    fraction: float = Field(ge=0, le=1)
    step: str
    """What is being done, in words for a person."""


class Probe(Record):
    """What the trained model gives for one sample's reply: a fingerprint that the served model must show too.

    ``before`` and ``after`` are log-probabilities (nats), one per reply token.
    """

    sample: str
    prompt: tuple[int, ...]
    """Token ids as they were trained on: tools written in, a long one cut."""
    token_ids: tuple[int, ...]
    before: tuple[float, ...]
    after: tuple[float, ...]
    text: str = ""
    """Prompt and reply as text, special tokens written out; a beginning-of-text token that servers add is left out."""
    starts: tuple[int | None, ...] = ()
    """Where in ``text`` each reply token begins; None where the text up to there is split into other tokens."""
    pieces: tuple[str, ...] = ()
    """The text of each reply token."""


class Provenance(Record):
    """What, beside the job, decides every bit of the adapter."""

    trainer: Literal["recipe", "fast"]
    """The plain modules of transformers and PEFT, or our own decoder."""
    precision: str
    """Of the base's weights in computations: float32 or bfloat16."""
    device: str
    """"the CPU", or the GPU's name."""
    instructions: str
    """The CPU's instruction set, as torch sees it: AVX2, AVX512 …"""
    weights: str = "whole"
    """Where the base's weights lay, and how the fast engine's passes were cut to the memory."""
    kernels: str = "none"
    """Which build of the fast engine's compiled part computed, if one did."""
    threads: int
    seed: int
    torch: str
    transformers: str
    peft: str


class DistillResult(Record):
    job: str
    step: int
    """Optimiser steps that this adapter has seen in its life."""
    metrics: dict[str, float]
    probes: tuple[Probe, ...]
    lora: LoraShape
    seconds: dict[str, float]
    """Wall time: load, train, save."""
    peak_rss: int
    """Bytes."""
    made_with: Provenance | None = None
    """None in results of earlier versions."""


class DistillFailure(Record):
    problem: str
