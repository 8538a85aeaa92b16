"""What the Ollama engine is told: where the server is, what to serve, and how the plan wants it run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from supervisor.errors import SettingsError
from supervisor.plan.models import NO_WISHES, Sampling

PORT = 11434
USUAL_PORTS = {"http": 80, "https": 443}
EVERYWHERE = {"0.0.0.0", "::"}  # noqa: S104 - what a server listens on, and a client cannot call


@dataclass(frozen=True)
class Address:
    """Where a server is reached."""

    scheme: str
    host: str
    port: int
    path: str = ""

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.netloc}{self.path}"

    @property
    def netloc(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def local(self) -> bool:
        """Whether a server of our own would be found there."""
        loopback = self.host in {"localhost", "::1"} or self.host.startswith("127.")
        return loopback and self.scheme == "http" and not self.path


def address(text: str) -> Address:
    """``OLLAMA_HOST`` as Ollama reads it: scheme, host and port are each optional. SettingsError for nonsense."""
    scheme, marked, rest = text.strip().partition("://")
    if not marked:
        scheme, rest = "http", text.strip()
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        port = parts.port
    except ValueError as exc:
        raise SettingsError(f"OLLAMA_HOST={text!r} is not an address ({exc}); write it as 127.0.0.1:{PORT}") from exc
    if scheme not in USUAL_PORTS:
        raise SettingsError(f"OLLAMA_HOST={text!r} must begin with http:// or https://, or with the host itself")
    host = parts.hostname or "127.0.0.1"
    usual = USUAL_PORTS[scheme] if marked else PORT
    return Address(scheme, "127.0.0.1" if host in EVERYWHERE else host, port or usual, parts.path.rstrip("/"))


@dataclass(frozen=True)
class Tuning:
    """How the plan wants the model run. ``threads`` None: Ollama's own choice."""

    context: int  # tokens one request may use
    threads: int | None = None
    parallel: int = 1
    flash_attention: bool | None = None
    kv_type: Literal["f16", "q8_0", "q4_0"] | None = None
    sampling: Sampling = NO_WISHES  # what Ollama's /v1 routes would otherwise replace by 1.0


@dataclass(frozen=True)
class OllamaSetup:
    """What stays the same over all restarts."""

    at: Address
    base: str  # the model's name in Ollama, e.g. "qwen3:8b"
    adapter: str
    data: Path  # our data folder: records, and the models of a server that we start
    others: tuple[str, ...] = ()  # further models, pulled and served as they are
    models: Path | None = None  # the server's models, where the user said it
    keep_alive: str = "24h"
    max_loaded: int = 1
    parallel: int = 1
    publish: Literal["auto", "create", "manifest", "merge"] = "auto"
    keep_versions: int = 3
    drain: float = 30.0  # seconds that running replies get before a switch
    executable: Path | None = None  # Ollama on this machine
    better: Callable[[], Path | None] = lambda: None  # one with libraries for the GPU; asked at each start
    environment: Mapping[str, str] = field(default_factory=dict)  # of a server that we start
    owner: str = ""  # see services.reaper.sweep
    known_models: tuple[str, ...] = ()  # names to suggest when one is not found

    @property
    def own_models(self) -> Path:
        """Where a server that we start keeps its models."""
        return self.models or self.data / "ollama"

    @property
    def tags_made(self) -> Path:
        """Our record of what we made in the server's store."""
        return self.data / "ollama-tags.json"

    @property
    def scratch(self) -> Path:
        return self.data / "publish"
