"""What the environment says, under the names that Ollama reads."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
FOREVER = math.inf


@dataclass(frozen=True)
class Environment:
    """``keep_alive`` in seconds (``FOREVER`` never unloads); a ``context`` of 0 leaves it to the server."""

    host: str
    port: int
    models: Path
    keep_alive: float
    context: int
    parallel: int
    max_loaded: int
    max_queue: int
    no_prune: bool


def read(env: Mapping[str, str]) -> Environment:
    host, port = address(env.get("OLLAMA_HOST", ""))
    home = Path(env.get("HOME", "/root"))
    return Environment(
        host=host,
        port=port,
        models=Path(env.get("OLLAMA_MODELS") or home / ".ollama" / "models"),
        keep_alive=lenient_keep_alive(env.get("OLLAMA_KEEP_ALIVE", "")),
        context=whole(env.get("OLLAMA_CONTEXT_LENGTH", ""), 0),
        parallel=max(1, whole(env.get("OLLAMA_NUM_PARALLEL", ""), 1)),
        max_loaded=whole(env.get("OLLAMA_MAX_LOADED_MODELS", ""), 0) or 3,
        max_queue=whole(env.get("OLLAMA_MAX_QUEUE", ""), 512),
        no_prune=truth(env.get("OLLAMA_NOPRUNE", "")),
    )


def address(text: str) -> tuple[str, int]:
    """Host and port of ``OLLAMA_HOST``, in which scheme, host and port are each optional."""
    scheme, found, rest = text.strip().strip("\"'").rpartition("://")
    parts = urlsplit(f"//{rest}")
    usual = {"http": 80, "https": 443}.get(scheme, 11434) if found else 11434
    return parts.hostname or "127.0.0.1", usual if parts.port is None else parts.port


def whole(text: str, default: int) -> int:
    """A value that does not parse is ignored with the default, as Ollama does."""
    return int(text) if text.strip().isdigit() else default


def truth(text: str) -> bool:
    """Set to anything but a false word means yes."""
    return bool(text) and text.lower() not in {"0", "f", "false"}


def lenient_keep_alive(text: str) -> float:
    """``OLLAMA_KEEP_ALIVE``: a Go duration, or whole seconds; negative is forever; nonsense is the default."""
    default = 300.0
    if not text:
        return default
    try:
        seconds = float(text) if re.fullmatch(r"-?\d+", text) else duration(text)
    except ValueError:
        return default
    return FOREVER if seconds < 0 else seconds


def duration(text: str) -> float:
    """Seconds of a Go duration such as ``1h30m``. Raises ValueError in Go's words."""
    sign, body = (-1.0, text[1:]) if text.startswith("-") else (1.0, text.removeprefix("+"))
    if body == "0":
        return 0.0
    if re.fullmatch(r"[\d.]+", body):
        raise ValueError(f'time: missing unit in duration "{text}"')
    found = re.findall(r"(\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h)", body)
    if not found or "".join(number + unit for number, unit in found) != body:
        raise ValueError(f'time: invalid duration "{text}"')
    return sign * sum(float(number) * UNITS[unit] for number, unit in found)
