"""An API with everything real around it but the model."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anyio
import httpx
from fastapi import FastAPI

from supervisor.adapters.store import AdapterStore
from supervisor.api.app import create_app
from supervisor.api.context import ApiContext
from supervisor.api.server import serve
from supervisor.api.status import StackStatus
from supervisor.engines.engine import Engine, Served
from supervisor.journal.journal import Journal, open_journal
from supervisor.journal.records import Completion
from supervisor.settings.datadir import DataDir
from tests.fakes.backend import Script, backend, says, streams
from tests.fakes.control import Pressed
from tests.fakes.engine import FakeEngine

ADAPTER, TOKEN = "openclaw/assistant", "a-token-for-tests-only"
SERVED = Served("tiny-chat", ADAPTER, "v0002")
CHAT = "/v1/chat/completions"
HELLO: dict[str, Any] = {"model": ADAPTER, "messages": [{"role": "user", "content": "Hello"}]}


@dataclass
class Stage:
    """A client of the API, and what stands behind it."""

    client: httpx.AsyncClient
    app: FastAPI
    context: ApiContext
    engine: FakeEngine
    asked: list[dict[str, Any]]  # bodies that reached the backend
    url: str

    @property
    def journal(self) -> Journal:
        return self.context.journal

    async def recorded(self) -> Completion:
        """The newest completion, as soon as there is one."""
        with anyio.fail_after(10):
            async with self.journal.changes() as changes:
                while not (found := await self.journal.completions(1)):
                    await anext(changes)
        return found[0]


@asynccontextmanager
async def context_for(folder: Path, engine: Engine, **other: Any) -> AsyncIterator[ApiContext]:
    async with open_journal(f"sqlite:///{folder}/journal.db") as journal:
        context = ApiContext(
            engine=engine,
            journal=journal,
            adapters=AdapterStore(folder / "adapters"),
            token=TOKEN,
            version="1.2.3",
            status=lambda: StackStatus("ready"),
            control=Pressed(),
            data=DataDir(folder),
            feedback_log_dir=folder / "feedback",
            allowed_base_models=("Qwen/Qwen3-8B",),
        )
        yield replace(context, **other)


@asynccontextmanager
async def in_process(folder: Path, script: Script | None = None, **other: Any) -> AsyncIterator[Stage]:
    """Requests go straight into the app: for answers, not for streams and clients that leave."""
    async with (
        backend(script or streams(says("Hi", " there"))) as behind,
        context_for(folder, engine := FakeEngine(behind.url, SERVED), **other) as context,
    ):
        app = create_app(context)
        async with app.router.lifespan_context(app), client_of("http://api", httpx.ASGITransport(app)) as client:
            yield Stage(client, app, context, engine, behind.asked, "http://api")


@asynccontextmanager
async def over_http(folder: Path, script: Script | None = None, **other: Any) -> AsyncIterator[Stage]:
    """Requests go over a socket to the real server."""
    async with (
        backend(script or streams(says("Hi", " there"))) as behind,
        context_for(folder, engine := FakeEngine(behind.url, SERVED), **other) as context,
        anyio.create_task_group() as tg,
    ):
        app = create_app(context)
        port = await tg.start(lambda *, task_status: serve(app, host="127.0.0.1", port=0, task_status=task_status))
        url = f"http://127.0.0.1:{port}"
        async with client_of(url) as client:
            yield Stage(client, app, context, engine, behind.asked, url)
        tg.cancel_scope.cancel()


def client_of(url: str, transport: httpx.AsyncBaseTransport | None = None) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    return httpx.AsyncClient(base_url=url, transport=transport, headers=headers, timeout=30, trust_env=False)
