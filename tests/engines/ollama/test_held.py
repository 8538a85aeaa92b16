"""What a server that ran before us holds already must not count as taken: it is ours."""

from pathlib import Path

import anyio
import httpx
import ollama
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from supervisor.engines.ollama.memory import Held, held
from supervisor.errors import EngineError
from tests.engines.ollama.world import ready, say
from tests.fakes.ollama.server import TINY_CHAT

pytestmark = pytest.mark.anyio


async def test_what_our_model_takes_is_told_and_nothing_once_it_is_gone(tmp_path: Path) -> None:
    async with ready(tmp_path) as (engine, _):
        with anyio.fail_after(30):
            await say(engine)
            taken = await engine.held()
            await engine.rest()
            left = await engine.held()

    assert taken.ram >= TINY_CHAT.stat().st_size
    assert (taken.vram, left) == (0, Held(0, 0))


def on_a_gpu(_request: Request) -> JSONResponse:
    models = [
        {"model": "ours:1", "size": 100, "size_vram": 70},
        {"model": "ours:2", "size": 50, "size_vram": 50},
        {"model": "theirs", "size": 1000, "size_vram": 900},
    ]
    return JSONResponse({"models": models})


async def asked(app: Starlette) -> Held:
    client = ollama.AsyncClient("http://ollama", transport=httpx.ASGITransport(app))
    return await held(client, lambda name: name.startswith("ours:"))


async def test_of_a_gpus_memory_only_what_is_ours_is_counted() -> None:
    assert await asked(Starlette(routes=[Route("/api/ps", on_a_gpu)])) == Held(ram=30, vram=120)


async def test_a_server_that_does_not_say_is_named() -> None:
    with pytest.raises(EngineError, match="Ollama does not say what it holds in memory"):
        await asked(Starlette())
