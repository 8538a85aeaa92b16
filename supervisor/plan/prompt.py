"""OpenClaw's prompt against the context: how much of it there is, and whether to trim it."""

from dataclasses import dataclass

from supervisor.errors import MachineError
from supervisor.plan.models import BaseModelFacts
from supervisor.settings.settings import Settings

SMALL = 3 * 2**30  # bytes of weights below which a model is confused by long instructions
FULL_PROMPT = 4500  # tokens of system prompt and tools as we configure OpenClaw; by itself it sends some 16,500
LEAN_PROMPT = 50  # one sentence and no tools; 20 were counted with tiny-chat's tokenizer
REPLY = 256  # tokens without which there is no turn at all
TALK = 2048  # tokens of history and reply below which a chat soon forgets


@dataclass(frozen=True)
class Prompt:
    lean: bool
    tokens: int
    explained: str


def plan_prompt(settings: Settings, model: BaseModelFacts, context: int, *, slow: bool, measured: int | None) -> Prompt:
    """``slow``: no GPU reads the prompt. ``measured``: tokens that OpenClaw really sent, where somebody counted them.

    Raises MachineError when they leave no room for a reply, with the remedy.
    """
    lean, why = trim(settings, model, slow=slow)
    tokens = measured or (LEAN_PROMPT if lean else FULL_PROMPT)
    counted = "measured" if measured else "about"
    if settings.lean == "auto" and not lean and context - tokens < TALK:
        lean, why = True, f"the full one, {counted} {tokens}, does not fit the context"
        tokens, counted = LEAN_PROMPT, "about"
    said, left = f"{counted} {tokens} tokens", context - tokens
    if left < REPLY:
        remedy = "Choose a model with a longer context" if lean else "Set CLAWLAMA_LEAN=auto"
        raise MachineError(
            f"OpenClaw's prompt is {said}, the context {context}: no room for a reply. {remedy}, "
            "raise CLAWLAMA_CONTEXT_WINDOW or give the container more memory"
        )
    short = f"; only {left} are left for history and reply" if left < TALK else ""
    return Prompt(lean, tokens, f"{'lean' if lean else 'full'}, {said}: {why}{short}")


def trim(settings: Settings, model: BaseModelFacts, *, slow: bool) -> tuple[bool, str]:
    """Whether OpenClaw's prompt is replaced by a short one without tools, whatever its length, and why."""
    if settings.lean != "auto":
        return settings.lean == "on", f"CLAWLAMA_LEAN={settings.lean}"
    if model.weights < SMALL:
        return True, "long instructions confuse a small model"
    if slow:
        return True, "a CPU would read the full one for minutes"
    return False, "it fits and is read in seconds"
