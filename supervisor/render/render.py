"""Plain values in, the text of OpenClaw's files out. Touches no disk but the templates, holds no secret."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from supervisor.errors import RenderError
from supervisor.render.templates import fill

LEAN_PROMPT = "You are a helpful assistant."
"""What a small model reads in lean mode instead of OpenClaw's 15,000 characters."""

MIN_CONTEXT = 4000
"""OpenClaw ends every turn with an error below this many tokens; below 8000 it warns in its log."""


@dataclass(frozen=True)
class ModelEntry:
    """One model that OpenClaw may choose; ``id`` is what our API is asked for and may hold slashes."""

    id: str
    name: str
    context_window: int  # tokens, prompt and reply together
    max_tokens: int  # tokens of one reply
    alias: str  # short name for OpenClaw's /model command
    reasoning: bool = False


@dataclass(frozen=True)
class Lean:
    """Replaces OpenClaw's system prompt and tools for models too small, or machines too slow, for them."""

    system_prompt: str = LEAN_PROMPT
    tools: tuple[str, ...] = ()


@dataclass(frozen=True)
class Telegram:
    """The channel is on; its token comes from TELEGRAM_BOT_TOKEN. Nobody in ``allow_from``: people pair first."""

    allow_from: tuple[int, ...] = ()


@dataclass(frozen=True)
class GatewayConfig:
    """All that openclaw.json depends on. The first model is the one OpenClaw uses."""

    port: int  # where people open it; the gateway itself is told another one, behind the door, when it is started
    provider_url: str  # of our API; ends in /v1 unless native
    api_url: str  # of our API, without a path; the plugin posts feedback there
    adapter: str  # name of the adapter that feedback teaches
    models: tuple[ModelEntry, ...]
    workspace: Path
    plugin: Path
    log_file: Path
    lean: Lean | None = None
    native: bool = False  # speak Ollama's own API with us, where the engine does
    telegram: Telegram | None = None
    max_concurrent: int = 4
    subagent_concurrent: int = 8
    reply_timeout_s: int = 600
    log_level: Literal["debug", "info", "warn", "error"] = "warn"  # from "info" on, replies are in its log
    log_bytes: int = 10_000_000  # of its log before that is put aside; five such are kept
    more_origins: tuple[str, ...] = ()  # addresses people open the control UI at, besides localhost


def openclaw_json(config: GatewayConfig) -> str:
    """The text of openclaw.json. RenderError when a value cannot be right or the result is not JSON."""
    _check(config)
    values = asdict(config) | {
        "workspace": str(config.workspace),
        "plugin": str(config.plugin),
        "log_file": str(config.log_file),
        "allowed_origins": _origins(config),
        "plugins_allowed": _plugins(config),
    }
    text = fill("config/openclaw.json.j2", values)
    try:
        parsed = json.loads(text)
    except json.JSONDecodeError as exc:
        raise RenderError(f"the rendered openclaw.json is not JSON: {exc}; repair templates/config") from exc
    return json.dumps(parsed, indent=2, ensure_ascii=False) + "\n"


def workspace_files() -> dict[str, str]:
    """Name and text of the files a new workspace starts with; people own them from then on."""
    rules = fill("workspace/rules.md.j2", {})
    return {
        "AGENTS.md": fill("workspace/AGENTS.md.j2", {"rules": rules}),
        "TOOLS.md": fill("workspace/TOOLS.md.j2", {"rules": rules}),
    }


def _origins(config: GatewayConfig) -> list[str]:
    return [f"http://localhost:{config.port}", f"http://127.0.0.1:{config.port}", *config.more_origins]


def _plugins(config: GatewayConfig) -> list[str]:
    return ["clawlama", *(["ollama"] if config.native else []), *(["telegram"] if config.telegram else [])]


def _check(config: GatewayConfig) -> None:
    if not config.models:
        raise RenderError("OpenClaw needs at least one model; none was given")
    if not 1 <= config.port <= 65535:
        raise RenderError(f"OpenClaw's port {config.port} is not between 1 and 65535")
    for model in config.models:
        if not model.id or model.id != model.id.strip():
            raise RenderError(f"model id {model.id!r} is empty or has spaces around it")
        if model.context_window < MIN_CONTEXT:
            raise RenderError(
                f"model {model.id}: context of {model.context_window} tokens; OpenClaw needs {MIN_CONTEXT} or more: "
                "raise CLAWLAMA_CONTEXT_WINDOW or choose a model with a longer context"
            )
        if not 1 <= model.max_tokens <= model.context_window:
            raise RenderError(
                f"model {model.id}: a reply of {model.max_tokens} tokens does not fit its context of "
                f"{model.context_window}; set CLAWLAMA_MAX_TOKENS between 1 and that"
            )
