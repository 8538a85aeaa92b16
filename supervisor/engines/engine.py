"""How the rest of us talks to a model, whatever serves it.

The API forwards requests, the learning loop publishes adapter versions and probes them;
neither knows which engine it has.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import httpx

from supervisor.services.service import Service

Route = Literal["/v1/chat/completions", "/v1/completions", "/api/chat", "/api/generate"]
"""What makes a completion: OpenAI's routes, answered as server-sent events, and Ollama's, answered as lines of JSON."""

OPENAI_ROUTES: frozenset[Route] = frozenset({"/v1/chat/completions", "/v1/completions"})

Live = Callable[[], Awaitable[bool]]  # whether the version that was just published is what answers now

Prompt = Sequence[Mapping[str, Any]] | Sequence[int]  # messages, or token ids


@dataclass(frozen=True)
class Served:
    """What answers under the adapter's name at one moment."""

    base: str  # the base model's name, e.g. "tiny-chat"
    adapter: str  # the adapter's name, e.g. "openclaw/assistant"
    version: str | None  # e.g. "v0003"; None: the bare base model
    others: tuple[str, ...] = ()  # further models that are served bare

    @property
    def models(self) -> tuple[str, ...]:
        """Names a request may use: the adapter and its alias give the tuned model, the others bare ones."""
        return (self.adapter, f"{self.adapter}-latest", self.base, *self.others)


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


@dataclass(frozen=True)
class Passage:
    """A prompt and the reply to it, both as token ids and as the text that an engine without ids can be asked with."""

    prompt: tuple[int, ...]
    reply: tuple[int, ...]
    text: str  # prompt and reply, special tokens written out
    starts: tuple[int | None, ...]  # per reply token: where in ``text`` it begins; None: the text up to there would
    # be split into other tokens than these
    pieces: tuple[str, ...]  # the text of each reply token


@dataclass(frozen=True)
class Seen:
    """Log-probability (nats) of one reply token under the served model. Not ``exact``: it is this or less."""

    logprob: float
    exact: bool = True


class Engine(Protocol):
    @property
    def kind(self) -> str:
        """What serves: ``llama`` or ``ollama``, later ``vllm``, ``tinker``."""
        ...

    @property
    def routes(self) -> frozenset[Route]:
        """The completion routes that ``forward`` takes."""
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

    def admit(self, method: str, path: str) -> None:
        """Raises RequestError for a route of the server's own API that it has not, or that is closed to callers."""
        ...

    def native(
        self, method: str, path: str, body: Mapping[str, Any] | None
    ) -> AbstractAsyncContextManager[httpx.Response]:
        """Send a request to another route of the server's own API, such as Ollama's ``/api/show``.

        Raises what ``admit`` and ``forward`` raise.
        """
        ...

    async def score(self, prompt: Prompt, reply: str | Sequence[int], *, model: str) -> Score:
        """How likely the served model finds this reply (text, or token ids), token by token."""
        ...

    async def look(self, passage: Passage, positions: Sequence[int], *, model: str) -> tuple[Seen | None, ...]:
        """How likely the served model finds these tokens of the reply; None where it cannot be asked.

        Raises EngineError when it does not answer.
        """
        ...

    async def publish(self, version: Version | None, live: Live | None = None) -> None:
        """Serve this version (None: the bare base) from the next request on; running requests finish first.

        ``live`` is asked after each way of serving that the engine tries, until it says yes. Raises NotServed when it
        never does, EngineError when the version cannot be loaded.
        """
        ...

    def remember(self, route: Route, body: Mapping[str, Any]) -> None:
        """A request with a typical prompt, for a reply of one token in one piece.

        Whatever is loaded from now on answers it before it serves, so that nobody waits for the reading.
        """
        ...

    async def rest(self) -> None:
        """Give the memory back; requests wait at the door until ``wake``."""
        ...

    async def wake(self) -> None: ...
