"""A real llama.cpp engine on a small model, ready to be asked. No torch here: a test starts this on its own."""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio

from supervisor.engines.engine import Reply, Route, Version
from supervisor.engines.llama import LlamaEngine, LlamaSetup
from supervisor.services.output import Output
from supervisor.services.tree import supervised

BASE, ADAPTER = "base", "openclaw/assistant"
CHAT: Route = "/v1/chat/completions"
QUESTION = [{"role": "user", "content": "how are you? 😊"}]


@asynccontextmanager
async def engine(base: Path, run: Path, version: Version | None = None) -> AsyncIterator[LlamaEngine]:
    """Started and ready; its process is gone after the block."""
    setup = LlamaSetup(
        base=BASE,
        adapter=ADAPTER,
        gguf=base / "model.gguf",
        context=512,
        parallel=2,
        threads=1,
        run=run,
        drain=20.0,
        environment=dict(os.environ),
        owner=str(run),
    )
    with anyio.fail_after(60):
        async with LlamaEngine(setup, version, Output("engine")) as made, supervised() as tree:
            await tree.start(made.service)
            yield made


def chat(**more: Any) -> dict[str, Any]:
    """A request for eight tokens, always the most likely ones, the end mark not among them."""
    return {"messages": QUESTION, "max_tokens": 8, "temperature": 0.0, "ignore_eos": True} | more


async def say(one: LlamaEngine, **more: Any) -> tuple[Reply, str]:
    """Ask for a whole reply; what answered, and the text."""
    async with one.forward(CHAT, chat(**more)) as reply:
        body = json.loads(await reply.response.aread())
    assert reply.response.status_code == 200, body
    return reply, body["choices"][0]["message"]["content"]
