"""One call that makes an adapter version a tag of Ollama's and proves that it serves, whatever this server accepts.

A way counts as working when the server took the tag, the engine could load it, and ``live`` said yes: a server that
takes an adapter without a word and ignores it is found out by that. What worked is remembered per server and version.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

import anyio
import structlog
from ollama import AsyncClient

from supervisor.adapters.store import file_record
from supervisor.engines.engine import Live, Version
from supervisor.engines.ollama.merging import Merging
from supervisor.engines.ollama.names import LONGEST_PART, parse_name
from supervisor.engines.ollama.record import Made, Record, RouteName
from supervisor.engines.ollama.routes import ROUTES, Order, Reach, finished, refusals
from supervisor.engines.ollama.store import Store, read
from supervisor.engines.ollama.store_write import Shelf, drop_unused, writable
from supervisor.errors import EngineError, NotServed, RouteRefused, StoreError

NAMESPACE = "clawlama"
BASE, ALIAS = "base", "latest"
VERSION = re.compile(r"v[0-9]{4,9}")

Switch = Callable[[str], Awaitable[None]]
"""Load this tag and let it answer from now on. Raises EngineError when it does not load; the one before then serves."""

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(frozen=True)
class PublishSetup:
    """What stays the same while we run."""

    base: str  # the base model as the server knows it
    adapter: str  # the adapter's name
    choice: Literal["auto", "create", "manifest", "merge"]
    record: Path  # a file in the data folder
    scratch: Path  # a folder there for what is in work
    server: Callable[[], Awaitable[str]]  # its address and version: what a route that worked is remembered for


class Publisher:
    """``parameters`` (num_ctx, num_thread) come from the plan, ``store`` from the server's answers: both set later."""

    def __init__(self, client: AsyncClient, setup: PublishSetup, merging: Merging) -> None:
        self.parameters: Mapping[str, int] = {}
        self.store: Store | None = None
        self._client = client
        self._setup = setup
        self._merging = merging
        self._repository = repository(setup.adapter)
        self._label = sha256(setup.adapter.encode()).hexdigest()[:8]
        self._record = Record(setup.record)
        self._serving: str | None = None
        self._base: str | None = None  # digest of the base model's manifest, the same as long as we run
        self._tidy = False
        self._lock = anyio.Lock()

    async def base_tag(self) -> str:
        """The tag of the bare base with our parameters, made when it is missing or out of date."""
        async with self._lock:
            await self._tidy_up()
            return await self._base_tag()

    async def publish(self, version: Version | None, switch: Switch, live: Live | None = None) -> str:
        """Let ``switch`` serve this version (None: the bare base); the tag that does.

        Raises NotServed when every way was taken but none proved live, EngineError when the server takes it in no way.
        """
        async with self._lock:
            await self._tidy_up()
            tag = await self._base_tag() if version is None else self._tag(version.name)
            if version is None:
                await switch(tag)
                if live is not None and not await live():
                    raise NotServed(f"the server took {tag}, but its probabilities are not those of {self._setup.base}")
            else:
                await self._own(tag)
                await self._try_all(tag, version, switch, live)
            self._serving = tag
            await self._point_alias(tag)
            return tag

    async def prune(self, keep: int) -> None:
        """Remove our tags of versions, but the newest ``keep`` and the one that serves."""
        async with self._lock:
            ours = sorted(filter(self._is_version, self._record.tags), key=lambda tag: int(tag.rpartition(":v")[2]))
            for tag in [tag for tag in ours[:-keep] if tag != self._serving]:
                await self._remove(tag)

    async def _try_all(self, tag: str, version: Version, switch: Switch, live: Live | None) -> None:
        """A tag that is there already comes first, then each way in turn."""
        wanted = await self._wanted(version.gguf)
        server = await self._setup.server()
        answers: dict[str, EngineError] = {}
        if await self._is_there(tag, wanted):
            try:
                return await prove(tag, switch, live)
            except EngineError as exc:
                log.info("a tag made earlier does not serve, making it anew", tag=tag, why=str(exc))
        await self._check_fits(version.gguf)
        for route in self._order(server):
            try:
                await self._make(tag, wanted, route, version.gguf)
                await prove(tag, switch, live)
            except (RouteRefused, StoreError, NotServed) as exc:
                answers[route] = exc
            except EngineError as exc:
                await self._server_tags()  # raises when the server is gone: no other way will do better then
                answers[route] = exc
            else:
                if live is not None:
                    self._record.remember(server, route)
                log.info("adapter version published", tag=tag, route=route, proved=live is not None)
                return None
            log.info("this way to publish does not work here", tag=tag, route=route, why=str(answers[route]))
            if self._record.route(server) == route:
                self._record.remember(server, None)
        raise no_way(tag, answers)

    async def _check_fits(self, gguf: Path) -> None:
        """RouteRefused when the adapter is not one for this base: a server takes it, and fails when it loads it."""
        if self.store is None:
            return
        try:
            base = await anyio.to_thread.run_sync(self.store.read, self._setup.base)
        except StoreError as exc:
            log.info("adapter not checked against its base", why=str(exc))
            return
        await self._merging.check(base.weights, gguf)

    async def _make(self, tag: str, wanted: Made, route: RouteName, gguf: Path) -> None:
        """Every blob is written down as ours before it is there; so are those of the tag that this one replaces."""
        blobs = {f"sha256:{wanted.adapter}", *self._blobs_of(tag)}

        def note(digest: str | None = None) -> None:
            blobs.update([digest] if digest else [])
            self._record.note(tag, wanted.model_copy(update={"blobs": tuple(sorted(blobs))}))

        note()
        reach = Reach(self._client, self.store, self._shelf(note), self._merging, self._setup.scratch)
        await ROUTES[route](reach, Order(tag, self._setup.base, gguf, wanted.parameters))
        await self._drop_unused(blobs)
        digest = (await self._server_tags()).get(tag.lower())
        made = wanted.model_copy(update={"route": route, "digest": digest, "blobs": tuple(sorted(blobs))})
        self._record.note(tag, made)

    def _order(self, server: str) -> list[RouteName]:
        if self._setup.choice != "auto":
            return [self._setup.choice]
        remembered = self._record.route(server)
        return sorted(ROUTES, key=lambda route: route != remembered)

    async def _wanted(self, gguf: Path | None) -> Made:
        """What a tag of now is made of, before it is."""
        tags = await self._server_tags()
        base = tags.get(str(parse_name(self._setup.base)).lower())
        if base is None:
            raise EngineError(f"Ollama has no model {self._setup.base!r} any more; pull it, or restart clawlama")
        if self._base not in (None, base):
            raise EngineError(
                f"{self._setup.base} was pulled anew or replaced while clawlama runs; restart clawlama to use it, "
                "what was learned on the one before waits for that to come back"
            )
        self._base = base
        adapter = None
        if gguf is not None:
            adapter = (await anyio.to_thread.run_sync(file_record, gguf)).sha256
        return Made(base=base, adapter=adapter, parameters=dict(self.parameters), route=None)

    async def _is_there(self, tag: str, wanted: Made) -> bool:
        """Whether a whole tag of just these parts is on the server."""
        made = self._record.tags.get(tag)
        if made is None or made.route is None or not made.same_parts(wanted):
            return False
        return (await self._server_tags()).get(tag.lower()) == made.digest

    async def _base_tag(self) -> str:
        tag = self._tag(BASE)
        await self._own(tag)
        wanted = await self._wanted(None)
        if await self._is_there(tag, wanted):
            return tag
        self._record.note(tag, wanted)
        with refusals():
            parameters = wanted.parameters or None
            await finished(
                await self._client.create(model=tag, from_=self._setup.base, parameters=parameters, stream=True)
            )
        digest = (await self._server_tags()).get(tag.lower())
        self._record.note(tag, wanted.model_copy(update={"route": "create", "digest": digest}))
        return tag

    async def _point_alias(self, tag: str) -> None:
        """The alias is what others may use from outside. Where it fails, the names at our own door still serve."""
        alias = self._tag(ALIAS)
        made = self._record.tags[tag]
        if self._record.tags.get(alias) == made and await self._is_there(alias, made):
            return
        try:
            await self._own(alias)
            self._record.note(alias, made.model_copy(update={"route": None}))
            if shelf := self._shelf(lambda _digest: None):
                await anyio.to_thread.run_sync(point_alias, shelf, tag, alias)
            else:
                with refusals():
                    await self._client.copy(tag, alias)
            self._record.note(alias, made)
        except EngineError as exc:
            log.warning("the alias does not name the version that serves", alias=alias, serves=tag, why=str(exc))

    async def _own(self, tag: str) -> None:
        """EngineError when this tag is somebody else's."""
        if tag in self._record.tags:
            return
        theirs = [one for one in await self._server_tags() if one.startswith(f"{self._repository}:".lower())]
        if tag.lower() in theirs:
            raise EngineError(
                f"Ollama has a model {tag} that this clawlama did not make, so it is left alone. If another one serves "
                "it, choose another name here with CLAWLAMA_ADAPTER; if it is from a data folder that is gone or was "
                f"restored, remove it: ollama rm {' '.join(sorted(theirs))}"
            )

    async def _remove(self, tag: str) -> None:
        """Of ours only. Blobs that no manifest mentions afterwards go with it, where we may write."""
        made = self._record.tags[tag]
        self._record.note(tag, made.model_copy(update={"route": None}))  # a death from here on: removed next time
        if tag.lower() in await self._server_tags():
            with refusals():
                await self._client.delete(tag)
        await self._drop_unused(set(made.blobs))
        self._record.forget([tag])

    async def _tidy_up(self) -> None:
        """Once: what an earlier life left unfinished goes."""
        if self._tidy:
            return
        if shelf := self._shelf(lambda _digest: None):
            await anyio.to_thread.run_sync(shelf.drop_drafts)
        for tag, made in self._record.tags.items():
            if made.route is None:
                await self._remove(tag)
        self._tidy = True

    async def _server_tags(self) -> dict[str, str]:
        """Every model there is, by its name in small letters: the digest of its manifest as ``sha256:…``."""
        with refusals():
            listed = (await self._client.list()).models
        return {str(one.model).lower(): f"sha256:{str(one.digest).removeprefix('sha256:')}" for one in listed}

    def _shelf(self, adding: Callable[[str], None]) -> Shelf | None:
        return Shelf(self.store, self._label, adding) if self.store is not None and writable(self.store) else None

    def _blobs_of(self, tag: str) -> set[str]:
        """What a tag of ours is made of, and was on the way."""
        made = self._record.tags.get(tag)
        blobs = set(made.blobs) if made else set()
        if made and self.store is not None:
            with suppress(StoreError):  # nothing there, or half of it
                blobs |= self.store.manifest(parse_name(tag))[0].digests
        return blobs

    async def _drop_unused(self, digests: set[str]) -> None:
        """Where we may; elsewhere the server does it when it starts."""
        if self.store is not None and writable(self.store):
            await anyio.to_thread.run_sync(drop_unused, self.store, digests)

    def _tag(self, what: str) -> str:
        return f"{self._repository}:{what}"

    def _is_version(self, tag: str) -> bool:
        before, _, what = tag.rpartition(":")
        return before == self._repository and VERSION.fullmatch(what) is not None


async def prove(tag: str, switch: Switch, live: Live | None) -> None:
    """Raises EngineError when it does not load, NotServed when something else answers."""
    await switch(tag)
    if live is not None and not await live():
        raise NotServed(f"the server took {tag}, but what answers is not the trained model")


def no_way(tag: str, answers: Mapping[str, EngineError]) -> EngineError:
    """What each way came to. NotServed when the server said yes at least once."""
    told = "; ".join(f"{route}: {answer}" for route, answer in answers.items())
    kind = NotServed if any(isinstance(answer, NotServed) for answer in answers.values()) else EngineError
    return kind(f"no way to publish {tag} works with this Ollama ({told})")


def repository(adapter: str) -> str:
    """``clawlama/openclaw-assistant`` for ``openclaw/assistant``; a name too long for Ollama ends in its hash."""
    flat = adapter.replace("/", "-")
    if len(flat) > LONGEST_PART:
        flat = f"{flat[: LONGEST_PART - 13]}-{sha256(adapter.encode()).hexdigest()[:12]}"
    return f"{NAMESPACE}/{flat}"


def point_alias(shelf: Shelf, tag: str, alias: str) -> None:
    """One step, where the server's own copy can be met half-written."""
    path = shelf.store.find(parse_name(tag))
    if path is None:
        raise StoreError(f"{shelf.store.root} does not hold {tag}; is it the folder of this server?")
    shelf.put_manifest(parse_name(alias), read(path))
