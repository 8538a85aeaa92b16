"""The embedded llama.cpp (xllamacpp) as an engine: one GGUF base and at most one adapter version.

A version is published by starting the child process anew with it. The weights are memory-mapped, so that takes a
second or so; requests wait at the door meanwhile. The bare base stays reachable under its own name.
"""

import os
import secrets
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, Self

import anyio
import httpx
import structlog
from pydantic import ValidationError

from supervisor.engines.door import Door
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
from supervisor.engines.llama_score import forced, score_reply
from supervisor.engines.llama_server import Endpoint, LlamaConfig
from supervisor.errors import EngineError, NotServed, RequestError, UnknownModel
from supervisor.plan.models import NO_WISHES, Sampling
from supervisor.services.output import Output
from supervisor.services.process import Command
from supervisor.services.readiness import Liveness
from supervisor.services.service import Service
from supervisor.settings.secrets import write_private

TIMEOUT = httpx.Timeout(10.0, read=900.0)  # a long prompt on a slow CPU is minutes without a byte
START_TIMEOUT = 300.0  # seconds; reading a large model from a slow disk

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(frozen=True)
class LlamaSetup:
    """What stays the same over all restarts."""

    base: str
    adapter: str
    gguf: Path
    context: int
    parallel: int
    threads: int
    run: Path  # folder for the child's config and endpoint files
    drain: float  # seconds that running replies get before a switch
    environment: Mapping[str, str]
    owner: str  # see services.reaper.sweep
    sampling: Sampling = NO_WISHES


@dataclass
class _Trial:
    """A version that has not become ready yet, and what to go back to if it does not."""

    before: Version | None
    starts: int = 0
    failed: bool = False


class LlamaEngine:
    """Use it inside ``async with``: that closes its connections. Its process runs in the service tree."""

    kind = "llama"
    routes = OPENAI_ROUTES

    def __init__(self, setup: LlamaSetup, version: Version | None, output: Output) -> None:
        self._setup = setup
        self._version = version
        self._trial: _Trial | None = None
        self._remembered: tuple[Route, dict[str, Any]] | None = None
        self._key = ""
        self._door = Door()
        self._switching = anyio.Lock()
        self._client = httpx.AsyncClient(timeout=TIMEOUT, trust_env=False, verify=False)  # noqa: S501 - plain http
        self.service = Service(
            "engine",
            self._command,
            self._answers,
            output,
            alive=Liveness(self._listens, every=5.0, within=5.0, misses=12),
            start_timeout=START_TIMEOUT,
            grace=2.0,
            owner=setup.owner,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._client.aclose()

    @property
    def served(self) -> Served:
        return Served(self._setup.base, self._setup.adapter, self._version.name if self._version else None)

    @asynccontextmanager
    async def forward(self, route: Route, body: Mapping[str, Any]) -> AsyncIterator[Reply]:
        model = str(body.get("model") or self._setup.adapter)
        if model not in self.served.models:
            raise UnknownModel(model, self.served.models)
        async with self._door.passing():
            endpoint = await self._endpoint()
            tuned = model != self._setup.base and self._version is not None
            request = self._client.build_request(
                "POST", endpoint.url + route, json={**body, **self._adapters(tuned=tuned)}, headers=authorised(endpoint)
            )
            try:
                response = await self._client.send(request, stream=True)
            except httpx.TransportError as exc:
                raise EngineError(
                    f"the engine does not answer ({exc or type(exc).__name__}); it is being restarted"
                ) from exc
            try:
                yield Reply(model, self._version.name if tuned and self._version else None, response)
            finally:
                with anyio.CancelScope(shield=True):
                    await response.aclose()

    def admit(self, method: str, path: str) -> NoReturn:
        served = " and ".join(sorted(OPENAI_ROUTES))
        raise RequestError(404, f"there is no {method} {path} here: the embedded llama.cpp serves {served}")

    def native(self, method: str, path: str, body: Mapping[str, Any] | None) -> NoReturn:
        self.admit(method, path)

    async def score(self, prompt: Prompt, reply: str | Sequence[int], *, model: str) -> Score:
        if model not in self.served.models:
            raise UnknownModel(model, self.served.models)
        async with self._door.passing():
            endpoint = await self._endpoint()
            ask = partial(self._ask, endpoint)
            return await score_reply(ask, prompt, reply, extra=self._adapters(tuned=model != self._setup.base))

    async def look(self, passage: Passage, positions: Sequence[int], *, model: str) -> tuple[Seen | None, ...]:
        if model not in self.served.models:
            raise UnknownModel(model, self.served.models)
        whole = [*passage.prompt, *passage.reply]
        async with self._door.passing():
            ask = partial(self._ask, await self._endpoint())
            extra = self._adapters(tuned=model != self._setup.base)
            found = []
            for position in positions:
                until = len(passage.prompt) + position
                step = await forced(ask, whole[:until], whole[until], extra)
                found.append(Seen(float(step["logprob"])))
        return tuple(found)

    async def publish(self, version: Version | None, live: Live | None = None) -> None:
        """Raises EngineError when llama.cpp does not come up with this version; the one before then serves again."""
        await self._switch(version)
        if live is not None and not await live():
            raise NotServed(f"{version.name if version else 'the bare base'} was loaded but is not what answers")

    async def _switch(self, version: Version | None) -> None:
        async with self._switching:
            if not self._door.is_open:  # at rest: it starts with this version when it wakes
                self._version = version
                return
            await self._door.close(drain=self._setup.drain)
            trial = self._trial = _Trial(before=self._version)
            self._version = version
            try:
                await self.service.restart()
                await self._warm()
            finally:
                self._trial = None
                self._door.open()
        if trial.failed:
            raise EngineError(
                f"{version.name if version else 'the bare base'} does not load (see the engine's log); "
                f"{trial.before.name if trial.before else 'the bare base'} serves again"
            )

    async def rest(self) -> None:
        async with self._switching:
            await self._door.close(drain=self._setup.drain)
            await self.service.pause()

    async def wake(self) -> None:
        async with self._switching:
            await self.service.resume()
            await self._warm()
            self._door.open()

    def remember(self, route: Route, body: Mapping[str, Any]) -> None:
        self._remembered = route, dict(body)

    async def _warm(self) -> None:
        """Read the remembered prompt, so that the first request does not pay for it. Not worth failing for."""
        if self._remembered is None:
            return
        route, body = self._remembered
        adapters = self._adapters(tuned=self._version is not None)
        try:
            await self._ask(await self._endpoint(), route, {**body, **adapters})
        except EngineError as exc:
            log.warning("prompt not read ahead", problem=str(exc))

    async def _ask(self, endpoint: Endpoint, path: str, body: Mapping[str, Any] | None = None) -> Any:  # noqa: ANN401
        """POST ``body``, or GET when there is none; the parsed answer. Raises EngineError."""
        method = "GET" if body is None else "POST"
        try:
            answer = await self._client.request(method, endpoint.url + path, json=body, headers=authorised(endpoint))
        except httpx.TransportError as exc:
            raise EngineError(f"the engine does not answer {path} ({exc or type(exc).__name__})") from exc
        if not answer.is_success:
            raise EngineError(f"the engine refused {path} with {answer.status_code}: {answer.text[:300]}")
        return answer.json()

    def _adapters(self, *, tuned: bool) -> dict[str, Any]:
        """The adapter is named in each request: a server-wide switch reuses prompts cached under the other one."""
        return {"lora": [{"id": 0, "scale": 1.0 if tuned else 0.0}]} if self._version else {}

    def _command(self) -> Command:
        if self._trial is not None:
            self._trial.starts += 1
            if self._trial.starts > 1:  # the first start with the new version did not last
                self._trial.failed = True
                self._version = self._trial.before
        self._key = secrets.token_urlsafe(24)
        config = LlamaConfig(
            name=self._setup.base,
            gguf=self._setup.gguf,
            adapter=self._version.gguf if self._version else None,
            context=self._setup.context,
            parallel=self._setup.parallel,
            threads=self._setup.threads,
            temperature=self._setup.sampling.temperature,
            top_p=self._setup.sampling.top_p,
            top_k=self._setup.sampling.top_k,
            key=self._key,
            endpoint=self._endpoint_file,
            parent=os.getpid(),
        )
        path = self._setup.run / "engine.json"
        write_private(path, config.model_dump_json())
        return Command(
            argv=(sys.executable, "-m", "supervisor.engines.llama_server", str(path)), env=self._setup.environment
        )

    @property
    def _endpoint_file(self) -> Path:
        return self._setup.run / "engine.endpoint.json"

    async def _endpoint(self) -> Endpoint:
        await self.service.wait_ready()
        return self._read_endpoint()

    def _read_endpoint(self) -> Endpoint:
        try:
            endpoint = Endpoint.model_validate_json(self._endpoint_file.read_text())
        except (FileNotFoundError, ValidationError) as exc:
            raise EngineError("the engine has not said yet where it listens") from exc
        if endpoint.key != self._key:
            raise EngineError("the engine is being restarted")
        return endpoint

    async def _answers(self) -> None:
        """Return once a real token came back: a server that listens may still be unable to serve."""
        await self._answered("/completion", {"prompt": "Hello", "n_predict": 1})

    async def _listens(self) -> None:
        """The same without a token: that may have to wait until others have theirs."""
        await self._answered("/health")

    async def _answered(self, path: str, body: Mapping[str, Any] | None = None) -> None:
        while True:
            try:
                await self._ask(self._read_endpoint(), path, body)
            except EngineError:  # not yet; the service's patience bounds this loop
                await anyio.sleep(0.05)
            else:
                return


def authorised(endpoint: Endpoint) -> dict[str, str]:
    return {"Authorization": f"Bearer {endpoint.key}"}
