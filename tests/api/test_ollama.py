"""Ollama's official client at our door, a real engine behind it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import httpx
import ollama
import pytest

from supervisor.api.app import create_app
from supervisor.api.server import serve
from supervisor.engines.ollama.engine import OllamaEngine
from supervisor.journal.journal import Journal
from supervisor.services.output import Output
from tests.api.stage import ADAPTER, TOKEN, context_for
from tests.engines.ollama.world import BASE, prepare, stocked, world

pytestmark = pytest.mark.anyio
HELLO = [{"role": "user", "content": "Hello"}]


@asynccontextmanager
async def at_the_door(folder: Path, engine: OllamaEngine) -> AsyncIterator[tuple[ollama.AsyncClient, Journal]]:
    async with context_for(folder, engine) as context, anyio.create_task_group() as tg:
        app = create_app(context)
        port = await tg.start(lambda *, task_status: serve(app, host="127.0.0.1", port=0, task_status=task_status))
        url = f"http://127.0.0.1:{port}"
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with ollama.AsyncClient(url, headers=headers, trust_env=False, timeout=60) as client:
            yield client, context.journal
        tg.cancel_scope.cancel()


async def test_the_official_client_finds_all_that_is_open(tmp_path: Path) -> None:
    with anyio.fail_after(90):
        async with (
            stocked(tmp_path) as around,
            OllamaEngine(around.setup(), Output) as engine,
            at_the_door(tmp_path, engine) as (client, journal),
        ):
            await prepare(engine)
            parts = [part async for part in await client.chat(ADAPTER, HELLO, stream=True)]
            text = await client.generate(BASE, "Hello", options={"num_predict": 3})
            vectors = await client.embed(ADAPTER, ["a", "b"])
            shown = await client.show(ADAPTER)
            models = {one.model for one in (await client.list()).models}
            loaded = [one.model for one in (await client.ps()).models]
            kept = await journal.completions(9)

    assert [part.done for part in parts][-1]
    assert len(vectors.embeddings) == 2
    assert "num_ctx" in (shown.parameters or "")
    assert f"{BASE}:latest" in models
    assert loaded == ["clawlama/openclaw-assistant:base"]
    assert [one.route for one in kept] == ["/api/generate", "/api/chat"]
    assert kept[1].reply["content"] == "".join(part.message.content or "" for part in parts)
    assert kept[0].reply["content"] == text.response


async def test_the_store_is_closed_and_a_pull_in_the_way_is_told(tmp_path: Path) -> None:
    told: list[str] = []

    with anyio.fail_after(90):
        async with (
            world(tmp_path, {"pull_bytes_per_second": 500_000}) as around,
            OllamaEngine(around.setup(), Output) as engine,
            at_the_door(tmp_path, engine) as (client, _),
            anyio.create_task_group() as tg,
        ):
            await engine.reach()
            tg.start_soon(engine.ensure_model)
            while "%" not in engine.doing:  # noqa: ASYNC110
                await anyio.sleep(0.01)
            for attempt in (
                client.chat(ADAPTER, HELLO),
                client.create(model="mine", from_=BASE),
                client.copy(BASE, "mine"),
                client.delete(BASE),
                client.create_blob(__file__),
                client.pull("huge:999b"),
            ):
                with pytest.raises(ollama.ResponseError) as refused:
                    await attempt
                told.append(f"{refused.value.status_code} {refused.value.error}")
            tg.cancel_scope.cancel()

    assert told[0].startswith("503 the model is not ready yet: pulling tiny ")
    assert [line[:3] for line in told[1:]] == ["403"] * 5
    assert all("closed here" in line or "CLAWLAMA_MODELS" in line for line in told[1:])


async def test_a_broken_off_embedding_is_no_silence(tmp_path: Path) -> None:
    with anyio.fail_after(90):
        async with (
            stocked(tmp_path) as around,
            OllamaEngine(around.setup(), Output) as engine,
            at_the_door(tmp_path, engine) as (client, _),
        ):
            await prepare(engine)
            await around.server.kill()
            with pytest.raises(ollama.ResponseError, match="does not answer") as gone:
                await client.embed(ADAPTER, "a")
            with pytest.raises((ollama.ResponseError, httpx.HTTPError)):
                await client.list()

    assert gone.value.status_code == 503
