"""Which engine serves which model, from what the user said; the plan's details come later, when the model is known."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from supervisor.plan.models import BUNDLED
from supervisor.settings.settings import Settings

EngineKind = Literal["llama", "ollama"]


@dataclass(frozen=True)
class Choice:
    engine: EngineKind
    model: str


def choose(settings: Settings, recommended: str) -> Choice:
    """``recommended`` is the Ollama model for this machine when the user named none."""
    if settings.model is None:
        return Choice("ollama", recommended) if settings.engine == "ollama" else Choice("llama", BUNDLED[0])
    if settings.engine == "llama" or on_disk(settings.model):
        return Choice("llama", settings.model)
    return Choice("ollama", settings.model)


def on_disk(model: str) -> bool:
    """A bundled model or something that looks like a path; anything else is a name for Ollama."""
    file = model.endswith(".gguf") and ":" not in model  # hf.co/OWNER/NAME:FILE.gguf is one for Ollama
    return model in BUNDLED or file or model.startswith(("/", "./", "../", "~")) or Path(model).is_dir()
