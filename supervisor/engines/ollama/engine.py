"""Ollama as an engine: a server that is there already, or one of our own.

It is made before its model is known, so that the API can say how far a pull is. Boot then calls, in
this order: ``reach`` → ``ensure_model`` → ``model_facts`` → ``tune`` → ``start``, and lets ``pull_others`` run beside.
Until ``start`` has returned, requests get StillPreparing with what is being done.

All that it makes in the server's store has names of its own, ``clawlama/<adapter>:vNNNN`` and ``:base``; under the
latter the bare base is served with the plan's context and threads.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, Self, get_args

import anyio
import httpx
import ollama
import structlog

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
from supervisor.engines.ollama.bodies import loading_options, native_body, openai_body
from supervisor.engines.ollama.library import AGAIN_IN, Library
from supervisor.engines.ollama.likelihood import look_at, score_reply
from supervisor.engines.ollama.memory import Held, held, preload, unload
from supervisor.engines.ollama.merging import Merging
from supervisor.engines.ollama.model import canonical
from supervisor.engines.ollama.native import LOOKS, asked_model, check, check_pull
from supervisor.engines.ollama.publish import Publisher, PublishSetup, repository
from supervisor.engines.ollama.pull import PullProgress
from supervisor.engines.ollama.server import own_service, version_of
from supervisor.engines.ollama.setup import OllamaSetup, Tuning
from supervisor.engines.ollama.wire import TIMEOUT, Wire
from supervisor.errors import EngineError, StillPreparing, UnknownModel
from supervisor.plan.models import NO_WISHES, BaseModelFacts
from supervisor.services.output import Output
from supervisor.services.service import Service

REACH_WITHIN = 60.0  # seconds
WATCH_EVERY = 10.0
REACH_EVERY = 0.5

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class OllamaEngine:
    """Use it inside ``async with``: that looks for a server, so that ``service`` is known, and closes connections."""

    kind = "ollama"
    routes: frozenset[Route] = frozenset(get_args(Route))

    def __init__(self, setup: OllamaSetup, outputs: Callable[[str], Output]) -> None:
        """``outputs``: where a process of this name prints."""
        self._setup = setup
        self._outputs = outputs
        self._wire = Wire(setup.at)
        self._client = ollama.AsyncClient(
            setup.at.url, timeout=TIMEOUT, trust_env=False, verify=setup.at.scheme == "https"
        )
        self._library = Library(self._client, setup)
        self._door = Door()
        self._switching = anyio.Lock()
        self._publisher = self._make_publisher()
        self._tuning: Tuning | None = None
        self._version: Version | None = None
        self._tag = ""  # what serves under the adapter's name; empty until something does
        self._base_tag = ""
        self._remembered: tuple[Route, dict[str, Any]] | None = None
        self.service: Service | None = None
        self.doing = f"looking for Ollama at {setup.at.url}"  # for people; empty once requests are served
        self.pulled: int | None = None  # bytes of the base model that have come, while more are to come
        self.server_version = ""
        self.trouble = ""  # what is wrong with the server while it should serve

    async def __aenter__(self) -> Self:
        try:
            found = await version_of(self._wire.client, self._setup.at)
        except EngineError as exc:
            found = str(exc)  # something else has that port; ``reach`` will say so
        if found is None and self._setup.at.local and self._setup.executable is not None:
            self._library.own_server = True
            self.service = own_service(self._setup, lambda: self._tuning, self._outputs("engine"))
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._wire.aclose()
        await self._client.close()  # type: ignore[no-untyped-call]

    @property
    def served(self) -> Served:
        version = self._version.name if self._version else None
        return Served(self._setup.base, self._setup.adapter, version, self._library.others)

    @property
    def downloads(self) -> Mapping[str, str]:
        """Further models that are not there: what is done for each, or what went wrong."""
        return self._library.downloads

    # Getting ready, in this order

    async def reach(self, within: float = REACH_WITHIN) -> str:
        """Wait for the server; its version. Raises EngineError with what to do."""
        if self.service is not None:
            await self.service.wait_ready()
        problem = f"no Ollama answers at {self._setup.at.url}"
        with anyio.move_on_after(within):
            while True:
                try:
                    if version := await version_of(self._wire.client, self._setup.at):
                        self.server_version = version
                        return version
                except EngineError as exc:
                    problem = str(exc)
                await anyio.sleep(REACH_EVERY)
        raise EngineError(
            f"{problem}, waited {within:.0f} s; start Ollama there, set OLLAMA_HOST to where it is, "
            "or install it here (https://ollama.com/download) so that we can start it"
        )

    async def ensure_model(self) -> None:
        """Pull the base model unless it is there. Raises PullFailed."""

        def tell(progress: PullProgress) -> None:
            self.doing = str(progress)
            self.pulled = progress.done if progress.done < progress.total or not progress.total else None

        await self._library.ensure_base(tell)
        self.pulled = None
        self.doing = f"looking at {self._setup.base}"

    async def model_facts(self) -> BaseModelFacts:
        """What the base model is. Its ``lessons`` says what is in the way where the server's store cannot be read."""
        facts, self._publisher.store = await self._library.base_facts()
        return facts

    async def held(self) -> Held:
        """The memory that our models have already, perhaps since before we started. Raises EngineError."""
        return await held(self._client, self._is_ours)

    async def tune(self, tuning: Tuning) -> None:
        """Take on what the plan decided. A server of our own is started anew with it: nothing is loaded yet."""
        self.doing = "preparing the model"
        self._tuning = tuning
        if self.service is not None:
            await self.service.restart()
        self._publisher.parameters = loading_options(tuning)
        self._base_tag = await self._publisher.base_tag()

    async def start(self, version: Version | None, live: Live | None = None) -> None:
        """Load this version (None: the bare base) and serve from now on. Raises EngineError."""
        self.doing = f"loading {version.name if version else self._setup.base}"
        await self.publish(version, live)
        self.doing = ""

    async def watch(self, every: float = WATCH_EVERY) -> None:
        """Note in ``trouble`` when the server is gone, until cancelled. One of our own is kept up by its service."""
        while True:
            try:
                version = await version_of(self._wire.client, self._setup.at)
                self.trouble = "" if version else f"no Ollama answers at {self._setup.at.url}"
            except EngineError as exc:
                self.trouble = str(exc)
            await anyio.sleep(every)

    async def pull_others(self, *, again_in: float = AGAIN_IN) -> None:
        """Pull the further models one by one and offer each once it is there; ``downloads`` says how it goes."""
        await self._library.pull_others(again_in=again_in)

    # Serving

    @asynccontextmanager
    async def forward(self, route: Route, body: Mapping[str, Any]) -> AsyncIterator[Reply]:
        model = str(body.get("model") or self._setup.adapter)
        self._check(model)
        async with self._inside():
            tag, version = self._tag_of(model)
            async with self._wire.sent("POST", route, self._body(route, body, tag)) as response:
                yield Reply(model, version, response)

    def admit(self, method: str, path: str) -> None:
        check(method, path)

    @asynccontextmanager
    async def native(self, method: str, path: str, body: Mapping[str, Any] | None) -> AsyncIterator[httpx.Response]:
        check(method, path)
        if path in LOOKS:
            async with self._wire.sent(method, path, self._look_body(path, body)) as response:
                yield response
            return
        model = asked_model(body or {}) or self._setup.adapter
        self._check(model)
        async with self._inside():
            content = native_body(body or {}, self._tag_of(model)[0], self._setup.keep_alive)
            async with self._wire.sent(method, path, content) as response:
                yield response

    async def score(self, prompt: Prompt, reply: str | Sequence[int], *, model: str) -> Score:
        self._check(model)
        messages = [one for one in prompt if not isinstance(one, int)]
        if not messages or not isinstance(reply, str):
            raise EngineError("Ollama takes no token ids; give the prompt as messages and the reply as text")
        async with self._inside():
            return await score_reply(self._ask, self._tag_of(model)[0], messages, reply)

    async def look(self, passage: Passage, positions: Sequence[int], *, model: str) -> tuple[Seen | None, ...]:
        self._check(model)
        async with self._inside():
            return await look_at(self._ask, self._tag_of(model)[0], passage, positions)

    # Changing what serves

    async def publish(self, version: Version | None, live: Live | None = None) -> None:
        """The version before serves while the new one is made; from its loading on, requests wait at the door.

        Both share one runner in Ollama, so serving the old one meanwhile would only load each in turn.
        """
        async with self._switching:
            if self._tuning is None:
                raise StillPreparing(self.doing)
            if not self._door.is_open:
                raise EngineError("the engine rests; wake it before it can take another version")
            before = self._version, self._tag
            proved = None if live is None else partial(self._proved, live, before)
            with self._back_on_failure(before):
                await self._publisher.publish(version, partial(self._switch_to, version), proved)
            await self._prune()

    async def rest(self) -> None:
        """Raises EngineError when the server keeps a model in memory; it serves on then."""
        async with self._switching:
            rested = False
            await self._door.close(drain=self._setup.drain)
            try:
                tags = [tag for tag in (self._tag, self._base_tag) if tag]
                await unload(self._client, tags, self._is_ours)
                rested = True
            finally:
                if not rested:
                    self._door.open()

    async def wake(self) -> None:
        """A model that does not load is no reason to keep people at the door: their requests will say what is wrong."""
        async with self._switching:
            try:
                if self._tag:
                    await preload(self._ask, self._tag)
                    await self._read_ahead(self._tag)
            except EngineError as exc:
                log.warning("engine does not wake well", problem=str(exc))
            finally:
                self._door.open()

    def remember(self, route: Route, body: Mapping[str, Any]) -> None:
        """A typical request: what is loaded from now on reads its prompt before it serves."""
        self._remembered = route, dict(body)

    # Inside

    async def _switch_to(self, version: Version | None, tag: str) -> None:
        """Load ``tag`` and read the remembered prompt, then have it serve. EngineError: the one before still does."""
        await self._door.close(drain=self._setup.drain)
        try:
            await preload(self._ask, tag)
            await self._read_ahead(tag)
            self._version, self._tag = version, tag
        finally:
            self._door.open()

    async def _proved(self, live: Live, before: tuple[Version | None, str]) -> bool:
        """The next way to publish makes the same tag anew: nobody may be served from it meanwhile."""
        with self._back_on_failure(before):
            if yes := await live():
                return yes
        self._version, self._tag = before
        return False

    @contextmanager
    def _back_on_failure(self, before: tuple[Version | None, str]) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._version, self._tag = before
            raise

    async def _ask(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """A question of our own, so put that it neither unloads nor reloads what serves. Raises EngineError."""
        return await self._wire.ask(path, native_body(body, str(body["model"]), self._setup.keep_alive))

    async def _read_ahead(self, tag: str) -> None:
        """Have the remembered prompt read, so that the next person does not wait for that. Not worth failing for."""
        if self._remembered is None:
            return
        route, body = self._remembered
        try:
            await self._wire.ask(route, self._body(route, body, tag))
        except EngineError as exc:
            log.warning("prompt not read ahead", model=tag, problem=str(exc))

    @asynccontextmanager
    async def _inside(self) -> AsyncIterator[None]:
        """Past the door, with the server up; waits for both."""
        async with self._door.passing():
            if self.service is not None:
                await self.service.wait_ready()
            yield

    async def _prune(self) -> None:
        try:
            await self._publisher.prune(self._setup.keep_versions)
        except EngineError as exc:
            log.warning("older versions stay in Ollama's store", problem=str(exc))

    def _check(self, model: str) -> None:
        """Raises StillPreparing, UnknownModel."""
        if not self._tag:
            raise StillPreparing(self.doing)
        if self._known(model) is None:
            raise UnknownModel(model, self.served.models)

    def _known(self, model: str) -> str | None:
        """The one of our names that this is, with or without a tag that goes without saying."""
        if model in self.served.models:
            return model
        return next((one for one in self.served.models if canonical(one) == canonical(model)), None)

    def _tag_of(self, model: str) -> tuple[str, str | None]:
        """What Ollama knows the model as, and the adapter version that it is."""
        known = self._known(model)
        if known == self._setup.base:
            return self._base_tag, None
        if known in self._library.others:
            return known, None
        return self._tag, self.served.version

    def _body(self, route: Route, body: Mapping[str, Any], tag: str) -> dict[str, Any]:
        assert self._tuning is not None
        if route in OPENAI_ROUTES:
            return openai_body(body, tag, NO_WISHES if tag in self._library.others else self._tuning.sampling)
        options = loading_options(self._tuning) if tag in self._library.others else None
        return native_body(body, tag, self._setup.keep_alive, options)

    def _look_body(self, path: str, body: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        """Any model may be looked at; ours under the names that they have at our door."""
        model = asked_model(body or {})
        if path == "/api/pull":
            check_pull(model, (self._setup.base, *self._setup.others))
            return {"model": model, "stream": (body or {}).get("stream", True)}  # and no "insecure"
        if body is not None and model is not None and self._tag and self._known(model):
            return {**{name: value for name, value in body.items() if name != "name"}, "model": self._tag_of(model)[0]}
        return body

    def _is_ours(self, listed: str) -> bool:
        named = {canonical(one) for one in (self._setup.base, *self._setup.others)}
        return listed.startswith(f"{repository(self._setup.adapter)}:") or canonical(listed) in named

    def _make_publisher(self) -> Publisher:
        setup = self._setup

        async def server() -> str:
            return f"{setup.at.url} {self.server_version}"

        publishing = PublishSetup(
            base=setup.base,
            adapter=setup.adapter,
            choice=setup.publish,
            record=setup.tags_made,
            scratch=setup.scratch,
            server=server,
        )
        merging = Merging(setup.environment, self._outputs("merge"), setup.owner, setup.scratch)
        return Publisher(self._client, publishing, merging)
