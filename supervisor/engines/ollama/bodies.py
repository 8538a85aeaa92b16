"""Request bodies on their way to Ollama: our names become its tags, the plan fills in what the caller left open."""

from collections.abc import Mapping
from typing import Any

from supervisor.engines.ollama.setup import Tuning
from supervisor.plan.models import Sampling


def native_body(
    body: Mapping[str, Any], tag: str, keep_alive: str, options: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """``options``: for a model whose tag does not carry the plan's wishes as parameters; the caller's win.

    ``shift`` is false unless the caller says otherwise, as in OpenClaw's requests: recent servers launch a runner with
    or without it, so a request that differs from the one before loads the model anew and forgets what it has read.
    """
    made = {**body, "model": tag}
    made.pop("name", None)
    if made.get("keep_alive") is None:
        made["keep_alive"] = seconds_or_text(keep_alive)
    if made.get("shift") is None:
        made["shift"] = False
    if options:
        given = made.get("options")
        made["options"] = {**options, **given} if isinstance(given, Mapping) else dict(options)
    return made


def openai_body(body: Mapping[str, Any], tag: str, sampling: Sampling) -> dict[str, Any]:
    """Ollama's /v1 routes take no options, put 1.0 for what is missing, and know ``max_tokens`` only."""
    made = {**body, "model": tag}
    if made.get("max_tokens") is None and isinstance(made.get("max_completion_tokens"), int):
        made["max_tokens"] = made["max_completion_tokens"]
    for name, wish in (("temperature", sampling.temperature), ("top_p", sampling.top_p)):
        if made.get(name) is None and wish is not None:
            made[name] = wish
    return made


def loading_options(tuning: Tuning) -> dict[str, Any]:
    """The options that decide how a model is loaded; another value in a request loads it anew."""
    made = {"num_ctx": tuning.context}
    return made if tuning.threads is None else {**made, "num_thread": tuning.threads}


def seconds_or_text(keep_alive: str) -> int | str:
    """Ollama takes a duration such as "24h", or seconds as a number: "-1" as a text is an error to it."""
    return int(keep_alive) if keep_alive.lstrip("-").isdigit() else keep_alive
