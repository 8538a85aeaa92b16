"""An Engine in front of any HTTP backend: no process of its own, no door."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx

from supervisor.engines.engine import (
    OPENAI_ROUTES,
    Live,
    Passage,
    Prompt,
    Reply,
    Route,
    Score,
    Seen,
    Served,
    Version,
)
from supervisor.errors import EngineError, RequestError, UnknownModel
from supervisor.services.service import Service


class FakeEngine:
    kind = "fake"
    routes: frozenset[Route] = OPENAI_ROUTES
    service: Service | None = None

    def __init__(self, url: str, served: Served) -> None:
        self.url = url
        self.served = served
        self.scores = True  # whether it can score
        self.remembered: tuple[Route, dict[str, Any]] | None = None

    @asynccontextmanager
    async def forward(self, route: Route, body: Mapping[str, Any]) -> AsyncIterator[Reply]:
        model = str(body["model"])
        if model not in self.served.models:
            raise UnknownModel(model, self.served.models)
        version = None if model == self.served.base else self.served.version
        async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
            request = client.build_request("POST", self.url + route, json=dict(body))
            try:
                response = await client.send(request, stream=True)
            except httpx.TransportError as exc:
                raise EngineError(f"the engine does not answer: {exc}") from exc
            try:
                yield Reply(model, version, response)
            finally:
                await response.aclose()

    def admit(self, method: str, path: str) -> None:
        """Only for an engine that takes Ollama's routes, and but for one."""
        if self.routes == OPENAI_ROUTES:
            raise RequestError(404, f"there is no {method} {path} here")
        if path == "/api/create":
            raise RequestError(403, f"{path} is closed here")

    @asynccontextmanager
    async def native(self, method: str, path: str, body: Mapping[str, Any] | None) -> AsyncIterator[httpx.Response]:
        async with (
            httpx.AsyncClient(timeout=30, trust_env=False) as client,
            client.stream(method, self.url + path, json=None if body is None else dict(body)) as response,
        ):
            yield response

    async def score(self, prompt: Prompt, reply: str | Sequence[int], *, model: str) -> Score:
        if model not in self.served.models:
            raise UnknownModel(model, self.served.models)
        if not self.scores:
            raise EngineError("the engine is being restarted")
        tokens = tuple(str(reply).split(" "))
        logprobs = tuple(-0.5 for _ in tokens)
        return Score(tokens, tuple(range(len(tokens))), logprobs, prompt_tokens=len(prompt))

    async def look(self, passage: Passage, positions: Sequence[int], *, model: str) -> tuple[Seen | None, ...]:
        raise NotImplementedError("the API never looks")

    async def publish(self, version: Version | None, live: Live | None = None) -> None:
        self.served = Served(self.served.base, self.served.adapter, version.name if version else None)

    def remember(self, route: Route, body: Mapping[str, Any]) -> None:
        self.remembered = (route, dict(body))

    async def rest(self) -> None:
        return

    async def wake(self) -> None:
        return
