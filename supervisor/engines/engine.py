"""How the rest of us talks to a model, whatever serves it.

The API forwards requests, the learning loop publishes adapter versions and probes them;
neither knows which engine it has.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import httpx

from supervisor.services.service import Service

Route = Literal["/v1/chat/completions", "/v1/completions"]
Prompt = Sequence[Mapping[str, Any]] | Sequence[int]  # messages, or token ids


@dataclass(frozen=True)
class Served:
    """What answers under the adapter's name at one moment."""

    base: str  # the base model's name, e.g. "tiny-chat"
    adapter: str  # the adapter's name, e.g. "openclaw/assistant"
    version: str | None  # e.g. "v0003"; None: the bare base model

    @property
    def models(self) -> tuple[str, ...]:
        """Names a request may use: the adapter and its alias give the tuned model, the base name the bare one."""
        return (self.adapter, f"{self.adapter}-latest", self.base)


@dataclass(frozen=True)
class Reply:
    """A backend's answer, its body not read yet."""

    model: str  # the name that was asked for
    version: str | None  # the adapter version that answers, None for the bare base
    response: httpx.Response


@dataclass(frozen=True)
class Version:
    """An adapter version as an engine needs it."""

    name: str
    gguf: Path


@dataclass(frozen=True)
class Score:
    """Log-probabilities (nats) of a reply under the served model, one per token, the closing token included."""

    tokens: tuple[str, ...]
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    prompt_tokens: int


class Engine(Protocol):
    @property
    def kind(self) -> str:
        """What serves: ``llama``, later ``ollama``, ``vllm``, ``tinker``."""
        ...

    @property
    def service(self) -> Service | None:
        """The process to supervise; None when the model is served elsewhere."""
        ...

    @property
    def served(self) -> Served: ...

    def forward(self, route: Route, body: Mapping[str, Any]) -> AbstractAsyncContextManager[Reply]:
        """Send one request; waits at the door while the engine rests or changes versions.

        Raises UnknownModel for a name outside ``served.models``, EngineError when the backend cannot be reached.
        A backend's own error answer (4xx, 5xx) is a Reply like any other.
        """
        ...

    async def score(self, prompt: Prompt, reply: str | Sequence[int], *, model: str) -> Score:
        """How likely the served model finds this reply (text, or token ids), token by token."""
        ...

    async def publish(self, version: Version | None) -> None:
        """Serve this version (None: the bare base) from the next request on; running requests finish first."""
        ...

    async def rest(self) -> None:
        """Give the memory back; requests wait at the door until ``wake``."""
        ...

    async def wake(self) -> None: ...
