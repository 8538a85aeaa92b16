"""The whole product on Ollama: pulled, served, taught and published, whatever way the server still takes."""

import json
import os
import re
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from supervisor.gateway.client import ask
from supervisor.settings.datadir import DataDir
from tests.e2e.checks import check_gone
from tests.e2e.product import PATIENCE, Life, Place, clear_away, started
from tests.fakes.ollama.quirks import Quirks
from tests.fakes.ollama.registry import publish
from tests.fakes.ollama.server import TINY_CHAT, OllamaServer, Served, ollama_server, registry_server
from tests.fakes.ports import free_port

pytestmark = [pytest.mark.anyio, pytest.mark.e2e, pytest.mark.openclaw]

OURS = "clawlama/openclaw-assistant"
PROMPTS = json.loads((TINY_CHAT.parent / "prompts.json").read_text())
PROGRAM = Path(__file__).parents[1] / "fakes" / "ollama" / "bin"
SLOW = 1_000_000  # bytes a second: the model takes four seconds


@dataclass(frozen=True)
class Town:
    """A registry, an Ollama server that knows it, and a place for clawlama."""

    registry: Served
    server: OllamaServer
    place: Place

    async def tags(self) -> set[str]:
        async with httpx.AsyncClient(base_url=self.server.url, trust_env=False) as client:
            return {one["model"] for one in (await client.get("/api/tags")).json()["models"]}

    async def unload(self) -> None:
        """Return once the server has nothing in memory."""
        async with httpx.AsyncClient(base_url=self.server.url, trust_env=False) as client:
            with anyio.fail_after(PATIENCE):
                while loaded := (await client.get("/api/ps")).json()["models"]:
                    await client.post("/api/generate", json={"model": loaded[0]["model"], "keep_alive": 0})
                    await anyio.sleep(0.1)


@asynccontextmanager
async def town(folder: Path, quirks: Mapping[str, Any] | None = None, **more: str) -> AsyncIterator[Town]:
    publish(folder / "registry", "library/tiny", "latest", TINY_CHAT, params={"temperature": 0})
    publish(folder / "registry", "library/other", "latest", TINY_CHAT, system="You are another one.")
    async with registry_server(folder / "registry") as registry:
        asked = Quirks(registry=registry.url, **(quirks or {}))
        async with ollama_server(folder / "ollama", asked) as server:
            settings = {"CLAWLAMA_ENGINE": "ollama", "CLAWLAMA_MODEL": "tiny", "OLLAMA_HOST": server.url, **more}
            place = Place(folder, {"OLLAMA_MODELS": str(server.models), **settings})
            try:
                yield Town(registry, server, place)
                check_gone(place)
            finally:
                clear_away(place)


async def say(life: Life, text: str, session: str) -> str:
    token = life.place.secret("openclaw_token")
    with anyio.fail_after(PATIENCE):
        return "".join([piece async for piece in ask(life.place.openclaw, token, text, session=session)])


async def lesson(life: Life, preference: str, prompts: list[str]) -> dict[str, Any]:
    """Chat through OpenClaw, say the same of each reply, wait for the end of the lesson."""
    replies = [await say(life, prompt, f"{preference}-{index}") for index, prompt in enumerate(prompts)]
    feedback = PROMPTS["feedback"][preference]["held_out"][0]
    requests = [
        {"lora_id": "openclaw/assistant", "prompt": prompt, "response": reply, "feedback": feedback}
        for prompt, reply in zip(prompts, replies, strict=True)
    ]
    async with life.place.client() as client:
        answer = await client.post("/v1/feedback", json={"requests": requests}, timeout=PATIENCE)
        assert answer.status_code == 200, answer.text
        found = answer.json()
        events = (await client.get(f"/v1/lessons/{found['lesson_id']}")).json()
    assert found["state"] == "done", events
    return dict(found)


def route_of(place: Place, version: str) -> str:
    """How a version was published, from what the engine keeps of it."""
    kept = (place.data / "ollama-tags.json").read_text()
    tags: dict[str, Any] = json.loads(kept)["tags"]
    return str(tags[f"{OURS}:{version}"]["route"])


async def test_every_way_of_publishing_ends_in_a_served_and_proved_version(tmp_path: Path) -> None:
    """One life; the server becomes a version that takes no adapters, then one that ignores those in its store."""
    async with town(tmp_path) as here, started(here.place) as life:
        await life.ready()
        first = await lesson(life, "no_emoji", PROMPTS["train"][:4])
        await here.server.quirks(version="0.34.1", adapters="refuse")
        second = await lesson(life, "no_emoji", PROMPTS["train"][4:8])
        await here.server.quirks(version="0.50.0", adapters="no_load")
        third = await lesson(life, "concise", PROMPTS["train"][8:12])

        versions = [one["version"] for one in (first, second, third)]
        assert versions == ["v0001", "v0002", "v0003"]
        assert [route_of(here.place, version) for version in versions] == ["create", "manifest", "merge"]
        for one in (first, second, third):
            metadata = one["distill_result"]["metadata"]
            assert metadata["proof_apart"] < metadata["proof_moved"] / 2
        assert {f"{OURS}:base", f"{OURS}:v0003", f"{OURS}:latest", "tiny:latest"} <= await here.tags()
        assert (await life.health())["version"] == "v0003"
        assert await say(life, "How are you?", "after")
        assert await life.end(signal.SIGTERM) == 0


async def test_what_was_learned_serves_again_after_a_kill_and_a_change_of_model_and_back(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        async with started(here.place) as life:
            await life.ready()
            await lesson(life, "no_emoji", PROMPTS["train"][:4])
            life.process.kill()
            await life.process.wait()
        async with started(here.place) as life:
            await life.ready()
            assert (await life.health())["version"] == "v0001"
            assert await life.end(signal.SIGTERM) == 0

        other = Place(here.place.folder, {**here.place.more, "CLAWLAMA_MODEL": "other"})
        async with started(other) as life:
            await life.ready()
            health = await life.health()
            assert (health["model"], health["version"]) == ("other", "v0001")  # the same weights: the adapter fits
            assert await life.end(signal.SIGTERM) == 0

        await here.server.quirks(adapters="no_load")
        await here.unload()
        stuck = Place(here.place.folder, {**here.place.more, "CLAWLAMA_PUBLISH": "create"})
        async with started(stuck) as life:
            await life.ready()
            health = await life.health()
            assert (health["phase"], health["version"]) == ("degraded", None)
            assert "v0001 cannot be served, the bare tiny serves" in health["reason"]
            assert await say(life, "How are you?", "bare")
            assert await life.end(signal.SIGTERM) == 0


async def test_a_pull_survives_the_end_of_the_server_and_of_us(tmp_path: Path) -> None:
    async with town(tmp_path, {"pull_bytes_per_second": SLOW}, CLAWLAMA_MODELS="other") as here:
        async with started(here.place) as life:
            await pulled(life, 10)
            life.process.kill()
            await life.process.wait()
        partial = downloaded(here.server)
        assert partial > 0
        async with started(here.place) as life:
            await pulled(life, 10)
            await here.server.kill()
            await here.server.start()
            await life.ready()
            health = await life.health()
            assert (health["phase"], health["model"]) == ("ready", "tiny")
            async with life.place.client() as client:
                with anyio.fail_after(PATIENCE):
                    while "other" not in await models(client):  # noqa: ASYNC110 - nothing announces it
                        await anyio.sleep(0.2)
            assert await life.end(signal.SIGTERM) == 0


async def models(client: httpx.AsyncClient) -> list[str]:
    return [one["id"] for one in (await client.get("/v1/models")).json()["data"]]


async def pulled(life: Life, percent: int) -> None:
    """Return once health says that so much of the model is there."""
    with anyio.fail_after(PATIENCE):
        while True:
            health = await life.api_up()
            told = re.search(r"pulling tiny (\d+) %", health["reason"])
            if health["phase"] == "pulling" and told and int(told[1]) >= percent:
                return
            assert health["phase"] in ("starting", "pulling"), health
            await anyio.sleep(0.05)


def downloaded(server: OllamaServer) -> int:
    return sum(path.stat().st_blocks * 512 for path in (server.models / "blobs").iterdir())


async def test_an_ollama_of_our_own_is_started_kept_up_and_ended(tmp_path: Path) -> None:
    publish(tmp_path / "registry", "library/tiny", "latest", TINY_CHAT, params={"temperature": 0})
    async with registry_server(tmp_path / "registry") as registry:
        place = Place(
            tmp_path,
            {
                "CLAWLAMA_ENGINE": "ollama",
                "CLAWLAMA_MODEL": "tiny",
                "OLLAMA_HOST": f"127.0.0.1:{free_port()}",
                "PATH": f"{PROGRAM}:{os.environ['PATH']}",
                "STANDIN_QUIRKS": Quirks(registry=registry.url).model_dump_json(),
            },
        )
        try:
            async with started(place) as life:
                await life.ready()
                server = await life.service("engine", lambda engine: engine.state == "ready")
                assert server.pid is not None
                os.kill(server.pid, signal.SIGKILL)
                await life.service("engine", lambda engine: engine.restarts == 1 and engine.state == "ready")
                assert await say(life, "How are you?", "after-the-kill")
                assert (DataDir(place.data).root / "ollama" / "blobs").is_dir()
                assert await life.end(signal.SIGTERM) == 0
            check_gone(place)
        finally:
            clear_away(place)
