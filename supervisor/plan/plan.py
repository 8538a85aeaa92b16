"""What we will run: one frozen value that everything after it reads."""

from dataclasses import dataclass
from typing import Literal

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


@dataclass(frozen=True)
class Plan:
    engine: Literal["llama"]
    model: BaseModelFacts
    threads: int
    context: int  # tokens one request may use
    parallel: int
    max_tokens: int
    lean: bool  # keep OpenClaw's prompt small
    recipe: Recipe
    rest_for_lessons: bool  # stop the engine while a lesson trains, for its memory
    reasons: tuple[str, ...]  # one line per decision, for people
