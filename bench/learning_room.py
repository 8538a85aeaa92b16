"""The product without OpenClaw: engine, journal, API, learning loop and trainer, joined as boot joins them.

Questions and feedback go over HTTP to our own API, as OpenClaw sends them; a lesson runs in the trainer's process and
is served before the answer comes.
"""

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import anyio
import httpx

from supervisor.adapters.store import AdapterStore
from supervisor.api.app import create_app
from supervisor.api.context import ApiContext
from supervisor.api.control import Reloaded
from supervisor.api.server import serve
from supervisor.api.status import StackStatus
from supervisor.control import Controls
from supervisor.executors.local import LocalExecutor
from supervisor.executors.trainer import Warm
from supervisor.host.detect import detect
from supervisor.journal.journal import open_journal
from supervisor.learning.lesson import Base, Teaching
from supervisor.learning.loop import Learning
from supervisor.learning.queue import JobBuilder
from supervisor.made import with_digest
from supervisor.plan.decide import decide
from supervisor.plan.models import model_facts
from supervisor.services.output import Output
from supervisor.services.tree import supervised
from supervisor.settings.datadir import DataDir
from supervisor.settings.sources import child_environment, load_settings
from supervisor.stack import llama_engine

AT_ONCE = 4  # questions in flight
LONGEST = 200  # tokens; the longest replies of tiny-chat have some 170
T = TypeVar("T")
Messages = list[dict[str, str]]
QUIET = {"HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore::FutureWarning"}
NOTHING = Reloaded(changed=(), restarted=(), needs_restart=())


@dataclass(frozen=True)
class Reply:
    completion: str
    text: str


@dataclass(frozen=True)
class Room:
    """A client of the running API."""

    client: httpx.AsyncClient
    adapter: str
    adapters: AdapterStore

    @property
    def folder(self) -> Path | None:
        """Of the version that serves; None while the bare base does."""
        version = self.adapters.current(self.adapter)
        return version.folder if version else None

    async def ask(self, chats: Sequence[Messages], **sampling: float) -> list[Reply]:
        """One reply per chat, in order; without ``sampling`` as the engine samples by itself."""
        told: dict[int, Reply] = {}
        limit = anyio.Semaphore(AT_ONCE)

        async def one(index: int, chat: Messages) -> None:
            async with limit:
                told[index] = await self._reply(chat, **sampling)

        async with anyio.create_task_group() as tg:
            for index, chat in enumerate(chats):
                tg.start_soon(one, index, chat)
        return [told[index] for index in range(len(chats))]

    async def _reply(self, chat: Messages, **sampling: float) -> Reply:
        body = {"model": self.adapter, "messages": chat, "max_tokens": LONGEST, **sampling}
        answer = await self.client.post("/v1/chat/completions", json=body)
        said = answer.raise_for_status().json()
        return Reply(answer.headers["x-clawlama-completion"], said["choices"][0]["message"]["content"].strip())

    async def teach(self, said: Sequence[tuple[Reply, str]]) -> dict[str, Any]:
        """One lesson of feedback on replies: the API's answer once the new version serves, or what went wrong."""
        requests = [
            {"lora_id": self.adapter, "completion_id": reply.completion, "feedback": words} for reply, words in said
        ]
        answer = await self.client.post("/v1/feedback", json={"requests": requests})
        outcome: dict[str, Any] = answer.json()
        return outcome


async def same(value: T) -> T:
    return value


@asynccontextmanager
async def room(data: Path, recipe: dict[str, Any]) -> AsyncIterator[Room]:
    """Up and untaught inside the block; ``recipe`` changes values of the plan's own."""
    folder = DataDir(data)
    folder.prepare()
    settings = load_settings(
        data=data,
        model="tiny-chat",
        engine="llama",
        parallel=AT_ONCE,
        threads=1,  # with more, llama.cpp's wait for each other by spinning: ten times as long on a busy machine
        gpu_packs="off",
    )
    model = with_digest(model_facts("tiny-chat"))
    plan = decide(detect(data), settings, model)
    plan = replace(plan, recipe=replace(plan.recipe, **recipe))
    adapters = AdapterStore(folder.adapters)
    adapters.bind(str(model.digest))
    engine = llama_engine(settings, plan, folder, None, Output, child_environment())
    async with (
        engine,
        supervised() as tree,
        open_journal(f"sqlite:///{folder.journal}") as journal,
        anyio.create_task_group() as tg,
    ):
        await tree.start(engine.service)
        around = child_environment() | QUIET
        teaching = Teaching(
            journal=journal,
            adapters=adapters,
            engine=engine,
            executor=LocalExecutor(
                folder.lessons, around, Output("lesson"), str(data), warm=Warm(tg, settings.trainer_warm_s)
            ),
            builder=JobBuilder(journal, adapters, plan),
            plan=plan,
            base=Base(str(model.digest), partial(same, str(model.digest)), lambda: nullcontext(model.trains_on)),
            code_version="bench",
            timeout=settings.lesson_timeout_s,
        )
        buttons = Controls(tree.status, tree.restart, stop_all=lambda: None, reload_all=partial(same, NOTHING))
        context = ApiContext(
            engine=engine,
            journal=journal,
            adapters=adapters,
            token=secrets.token_urlsafe(16),
            version="bench",
            status=lambda: StackStatus("ready"),
            control=buttons,
            data=folder,
            feedback_log_dir=folder.feedback,
            allowed_base_models=(model.name,),
        )
        tg.start_soon(Learning(teaching, timedelta(0)).run)
        port = await tg.start(partial(serve, create_app(context), host="127.0.0.1", port=0))
        headers = {"Authorization": f"Bearer {context.token}"}
        url = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=600, trust_env=False) as client:
            yield Room(client, settings.adapter, adapters)
        tg.cancel_scope.cancel()
