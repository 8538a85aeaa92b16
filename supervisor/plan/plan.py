"""What we will run: one frozen value that everything after it reads."""

from dataclasses import dataclass

from supervisor.plan.choose import EngineKind
from supervisor.plan.memory import KvCache
from supervisor.plan.models import BaseModelFacts


@dataclass(frozen=True)
class Recipe:
    """How a lesson trains unless the caller says otherwise; meanings in ``distill.job.Training``."""

    learning_rate: float
    alpha: float
    updates: int
    rounds: int
    rollouts: int
    kl_reg_weight: float
    lora_r: int
    lora_alpha: int
    replay: int  # pieces of earlier feedback that a lesson repeats


@dataclass(frozen=True)
class Plan:
    engine: EngineKind
    model: BaseModelFacts
    threads: int
    num_thread: int | None  # what Ollama is told; None: it takes as many by itself
    context: int  # tokens one request may use
    parallel: int
    kv_cache: KvCache
    flash_attention: bool | None  # None: the engine decides
    on_gpu: float  # share of weights and cache on the GPUs, 0 to 1; Ollama splits by itself, we only expect
    keep_alive: str  # as Ollama reads it
    max_tokens: int
    lean: bool  # keep OpenClaw's prompt small
    prompt_tokens: int  # of OpenClaw's prompt, measured or expected
    recipe: Recipe
    rest_for_lessons: bool  # stop the engine while a lesson trains, for its memory
    lesson_problem: str | None  # why a lesson cannot be expected to go well here
    reasons: tuple[str, ...]  # one line per decision, for people: "topic: what and why"
