"""An Ollama (the stand-in: real HTTP, real llama.cpp) with a registry behind it, and our engine in front."""

import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx
import ollama
from anyio.from_thread import start_blocking_portal

from supervisor.engines.ollama.engine import OllamaEngine
from supervisor.engines.ollama.setup import OllamaSetup, Tuning, address
from supervisor.plan.models import Sampling
from supervisor.services.output import Output
from tests.fakes.ollama.names import HOST
from tests.fakes.ollama.quirks import Quirks
from tests.fakes.ollama.registry import publish
from tests.fakes.ollama.server import TINY_CHAT, OllamaServer, ollama_server, registry_server

BASE, OTHER, ADAPTER = "tiny", "second:7m", "openclaw/assistant"
TUNING = Tuning(context=512, threads=1, sampling=Sampling(temperature=0.0))
HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}]}


@dataclass(frozen=True)
class World:
    folder: Path
    server: OllamaServer

    def setup(self, **other: Any) -> OllamaSetup:
        values: dict[str, Any] = {
            "at": address(self.server.url),
            "base": BASE,
            "adapter": ADAPTER,
            "data": self.folder / "data",
            "models": self.server.models,
            "environment": dict(os.environ),
            "owner": str(self.folder),
            "drain": 10.0,
        }
        return OllamaSetup(**{**values, **other})

    @property
    def client(self) -> ollama.AsyncClient:
        return ollama.AsyncClient(self.server.url, trust_env=False, timeout=60)

    async def loaded(self) -> dict[str, int | None]:
        """What is in memory, with its context."""
        async with self.client as client:
            return {str(one.model): one.context_length for one in (await client.ps()).models}


@asynccontextmanager
async def world(folder: Path, quirks: Mapping[str, Any] | None = None, **env: str) -> AsyncIterator[World]:
    """A server without models, and a registry that has two."""
    async with registry_server(shelves(folder / "registry")) as shop:
        wishes = Quirks.model_validate({"registry": shop.url, "retry_seconds": 0.05, **(quirks or {})})
        async with ollama_server(folder / "ollama", wishes, env) as server:
            yield World(folder, server)


@asynccontextmanager
async def stocked(folder: Path, gguf: Path = TINY_CHAT, **quirks: Any) -> AsyncIterator[World]:
    """A server that has the base model, and no network."""
    shelf, store = shelves(folder / "registry", gguf), folder / "ollama" / "models"
    shutil.copytree(shelf / "blobs", store / "blobs")
    shutil.copytree(shelf / "manifests" / "library" / BASE, store / "manifests" / HOST / "library" / BASE)
    async with ollama_server(folder / "ollama", Quirks(**quirks), {"OLLAMA_NOPRUNE": "1"}) as server:
        yield World(folder, server)


def shelves(folder: Path, gguf: Path = TINY_CHAT) -> Path:
    """A registry's folder with two models on one set of weights."""
    publish(folder, f"library/{BASE}", "latest", gguf, params={"temperature": 0.0, "top_k": 40})
    publish(folder, "library/second", "7m", gguf, system="Be brief.")
    return folder


@contextmanager
def lasting(folder: Path) -> Iterator[World]:
    """A stocked server for many tests, each with an event loop of its own; they may not stop it."""
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(stocked(folder)) as around:
        yield around


@asynccontextmanager
async def ready(place: Path | World, *, pulls: bool = False, **setup: Any) -> AsyncIterator[tuple[OllamaEngine, World]]:
    """An engine that serves the bare base, in a folder or at a server that is up; ``pulls``: with a registry."""
    with anyio.fail_after(120):
        async with AsyncExitStack() as stack:
            if isinstance(place, Path):
                place = await stack.enter_async_context((world if pulls else stocked)(place))
            engine = await stack.enter_async_context(OllamaEngine(place.setup(**setup), Output))
            await prepare(engine)
            yield engine, place


async def prepare(engine: OllamaEngine, tuning: Tuning = TUNING) -> None:
    """What boot does."""
    await engine.reach()
    await engine.ensure_model()
    await engine.model_facts()
    await engine.tune(tuning)
    await engine.start(None)


async def say(engine: OllamaEngine, route: Any = "/api/chat", **body: Any) -> dict[str, Any]:
    """A whole reply."""
    async with engine.forward(route, {**HELLO, "stream": False, **body}) as reply:
        answer = await reply.response.aread()
    assert reply.response.status_code == 200, answer
    return dict(reply.response.json())


async def native(engine: OllamaEngine, method: str, path: str, body: Mapping[str, Any] | None = None) -> httpx.Response:
    async with engine.native(method, path, body) as response:
        await response.aread()
    return response


async def until(true: Callable[[], bool]) -> None:
    """Wait for something that nobody announces; the caller bounds it."""
    while not true():  # noqa: ASYNC110
        await anyio.sleep(0.01)
