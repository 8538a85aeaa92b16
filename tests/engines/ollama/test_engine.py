"""The engine against a server that is there already."""

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import anyio
import pytest

from supervisor.engines.engine import Passage, Route
from supervisor.engines.ollama.engine import OllamaEngine
from supervisor.errors import EngineError, RequestError, StillPreparing, UnknownModel
from supervisor.services.output import Output
from tests.engines.ollama.world import (
    ADAPTER,
    BASE,
    HELLO,
    OTHER,
    TUNING,
    World,
    lasting,
    native,
    prepare,
    ready,
    say,
    until,
    world,
)
from tests.fakes.ollama.server import TINY_CHAT

pytestmark = pytest.mark.anyio
TAG = "clawlama/openclaw-assistant:base"
QUESTION = HELLO["messages"]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with lasting(tmp_path_factory.mktemp("house")) as around:
        yield around


def texts(answer: dict[str, Any]) -> str:
    if "choices" in answer:
        choice = answer["choices"][0]
        return str(choice.get("text") or choice["message"]["content"])
    return str(answer.get("response") or answer["message"]["content"])


async def test_every_route_serves_every_name_with_the_plans_context(house: World) -> None:
    async with ready(house) as (engine, around):
        for route in get_args(Route):
            for name in (None, ADAPTER, f"{ADAPTER}-latest", BASE, f"{BASE}:latest"):
                asked = {"prompt": "Hello"} if route in ("/v1/completions", "/api/generate") else {}
                assert texts(await say(engine, route, model=name, **asked))

        assert await around.loaded() == {TAG: 512}
        assert engine.served.models == (ADAPTER, f"{ADAPTER}-latest", BASE)
        assert engine.doing == ""


async def test_until_it_serves_requests_are_told_what_is_being_done(tmp_path: Path) -> None:
    async with world(tmp_path) as around, OllamaEngine(around.setup(), Output) as engine:
        with pytest.raises(StillPreparing, match="looking for Ollama at http"):
            await say(engine)
        with pytest.raises(StillPreparing):
            await native(engine, "POST", "/api/embed", {"input": "x"})
        await engine.reach()
        version = await native(engine, "GET", "/api/version")

    assert version.json() == {"version": engine.server_version}


async def test_the_facts_of_a_model_come_from_the_server_and_its_store(house: World) -> None:
    async with ready(house) as (engine, _):
        facts = await engine.model_facts()

    assert (facts.name, facts.max_context, facts.weights, facts.lessons) == (BASE, 4096, TINY_CHAT.stat().st_size, None)
    assert facts.gguf.read_bytes() == TINY_CHAT.read_bytes()
    assert facts.digest == f"sha256:{facts.gguf.name.removeprefix('sha256-')}"
    assert (facts.sampling.temperature, facts.sampling.top_k, facts.sampling.top_p) == (0.0, 40, None)
    assert (facts.layers, facts.kv_per_token) == (4, 2 * 4 * 2 * 128)


async def test_the_server_itself_names_its_folder(house: World) -> None:
    async with ready(house, models=house.folder / "elsewhere") as (engine, around):
        facts = await engine.model_facts()

    assert facts.lessons is None
    assert facts.gguf.is_relative_to(around.server.models)


async def test_what_the_caller_set_wins_over_the_plan(house: World) -> None:
    async with ready(house) as (engine, around):
        await say(engine, options={"num_ctx": 256, "num_predict": 1}, keep_alive="7m")
        loaded = await around.loaded()

        assert loaded == {TAG: 256}


async def test_openai_requests_get_the_models_own_temperature(house: World) -> None:
    async with ready(house) as (engine, _):
        replies = {texts(await say(engine, "/v1/chat/completions", max_completion_tokens=12)) for _ in range(4)}
        short = await say(engine, "/v1/chat/completions", max_completion_tokens=2)

    assert len(replies) == 1
    assert short["usage"]["completion_tokens"] == 2


async def test_a_reply_arrives_as_it_is_made(house: World) -> None:
    body = {**HELLO, "options": {"num_predict": 400, "temperature": 2.0}}

    async with ready(house) as (engine, _), engine.forward("/api/chat", body) as reply:
        parts = [json.loads(line) async for line in reply.response.aiter_lines()]

    assert reply.response.headers["content-type"].startswith("application/x-ndjson")
    assert len(parts) > 3
    assert [part["done"] for part in parts].index(True) == len(parts) - 1
    assert parts[0]["created_at"] < parts[-1]["created_at"]


async def test_requests_at_the_same_time_are_all_answered(house: World) -> None:
    answers: list[str] = []

    async with ready(house) as (engine, _):

        async def ask() -> None:
            answers.append(texts(await say(engine)))

        async with anyio.create_task_group() as tg:
            for _ in range(6):
                tg.start_soon(ask)

    assert len(answers) == 6
    assert len(set(answers)) == 1


async def test_a_name_that_is_not_served_is_refused_with_those_that_are(house: World) -> None:
    async with ready(house) as (engine, _):
        with pytest.raises(UnknownModel, match=r"use one of: openclaw/assistant, .*, tiny"):
            await say(engine, model="gpt-9")
        with pytest.raises(UnknownModel):
            await native(engine, "POST", "/api/embed", {"model": "gpt-9", "input": "x"})


async def test_a_full_server_is_an_answer_too(tmp_path: Path) -> None:
    async with ready(tmp_path) as (engine, around):
        await around.server.quirks(busy=True)
        async with engine.forward("/api/chat", HELLO) as reply:
            await reply.response.aread()

    assert reply.response.status_code == 503


async def test_a_server_that_is_gone_is_an_error_of_its_own(tmp_path: Path) -> None:
    async with ready(tmp_path) as (engine, around):
        await around.server.kill()
        with pytest.raises(EngineError, match="does not answer"):
            await say(engine)
        with pytest.raises(EngineError):
            await engine.rest()
        await around.server.start()

        assert texts(await say(engine))


async def test_resting_gives_the_memory_back_and_requests_wait(house: World) -> None:
    async with ready(house) as (engine, around):
        await engine.rest()
        rested = await around.loaded()
        async with anyio.create_task_group() as tg:
            answers: list[str] = []

            async def ask() -> None:
                answers.append(texts(await say(engine)))

            tg.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
            waiting = not answers
            await engine.wake()
        awake = await around.loaded()

    assert (rested, waiting, len(answers), awake) == ({}, True, 1, {TAG: 512})


async def test_resting_waits_for_replies_that_are_being_made(house: World) -> None:
    body = {**HELLO, "options": {"num_predict": 200}}

    async with (
        ready(house) as (engine, _),
        anyio.create_task_group() as tg,
        engine.forward("/api/chat", body) as reply,
    ):
        lines = reply.response.aiter_lines()
        await anext(lines)
        tg.start_soon(engine.rest)
        rest = [json.loads(line) async for line in lines]

    assert rest[-1]["done"] is True


@pytest.mark.parametrize(
    ("route", "more", "context"),
    [("/api/chat", {"options": {"num_ctx": 300}}, 300), ("/v1/chat/completions", {}, 512)],
)
async def test_what_wakes_reads_the_remembered_prompt(
    house: World, route: Route, more: dict[str, Any], context: int
) -> None:
    async with ready(house) as (engine, around):
        engine.remember(route, {**HELLO, **more, "stream": False})
        await engine.rest()
        await engine.wake()

        assert await around.loaded() == {TAG: context}


async def test_a_likely_reply_is_scored_from_its_text_emoji_and_all(house: World) -> None:
    async with ready(house) as (engine, _):
        said = texts(await say(engine, options={"num_predict": 40})).rstrip("\ufffd")
        score = await engine.score(QUESTION, said, model=ADAPTER)

    assert not said.isascii()
    assert "".join(score.tokens) == said
    assert len(score.logprobs) == len(score.tokens) <= 40
    assert all(value <= 0 for value in score.logprobs)
    assert sum(score.logprobs) > -20.0
    assert score.prompt_tokens > 0


async def test_what_cannot_be_scored_is_told(house: World) -> None:
    async with ready(house) as (engine, _):
        with pytest.raises(EngineError, match="none of the 20 likeliest"):
            await engine.score(QUESTION, "Ξ" * 3 + "zq", model=BASE)
        with pytest.raises(EngineError, match="takes no token ids"):
            await engine.score([1, 2], "x", model=BASE)


async def test_a_token_is_looked_at_through_the_text_before_it(house: World) -> None:
    async with ready(house) as (engine, _):
        said = texts(await say(engine, options={"num_predict": 4}))
        told = await engine.score(QUESTION, said, model=BASE)
        shown = await native(engine, "POST", "/api/chat", {**HELLO, "stream": False, "_debug_render_only": True})
        prompt = shown.json()["_debug_info"]["rendered_template"]
        starts = [len(prompt) + len("".join(told.tokens[:at])) for at in range(len(told.tokens))]
        ends = (None, 0, starts[0])  # not to be asked, nothing before it, and no likely token
        pieces = (*told.tokens, "x", "x", "Ξzq")
        passage = Passage((), (0,) * len(pieces), prompt + said, (*starts, *ends), pieces)
        seen = await engine.look(passage, range(len(pieces)), model=ADAPTER)

    *exact, unknown, first, unlikely = seen
    assert [one and one.logprob for one in exact] == pytest.approx(told.logprobs, abs=0.01)
    assert all(one is not None and one.exact for one in exact)
    assert (unknown, first) == (None, None)
    assert unlikely is not None
    assert not unlikely.exact
    assert unlikely.logprob < told.logprobs[0]


async def test_what_looks_and_what_computes_passes_with_our_names(house: World) -> None:
    async with ready(house) as (engine, _):
        tags = await native(engine, "GET", "/api/tags")
        running = await native(engine, "GET", "/api/ps")
        shown = await native(engine, "POST", "/api/show", {"name": ADAPTER})
        bare = await native(engine, "POST", "/api/show", {"model": TAG})
        vectors = await native(engine, "POST", "/api/embed", {"model": ADAPTER, "input": ["a", "b"]})
        openai = await native(engine, "POST", "/v1/embeddings", {"model": BASE, "input": "a"})
        head = await native(engine, "HEAD", "/api/version")
        missing = await native(engine, "POST", "/api/show", {"model": "nobody"})

    assert {one["name"] for one in tags.json()["models"]} >= {f"{BASE}:latest", TAG}
    assert [one["name"] for one in running.json()["models"]] == [TAG]
    assert "num_ctx" in shown.json()["parameters"]
    assert shown.json()["parameters"] == bare.json()["parameters"]
    assert len(vectors.json()["embeddings"]) == 2
    assert len(openai.json()["data"]) == 1
    assert (head.status_code, head.content) == (200, b"")
    assert (missing.status_code, missing.json()["error"]) == (404, "model 'nobody' not found")


async def test_only_what_is_configured_may_be_pulled(tmp_path: Path) -> None:
    async with ready(tmp_path, pulls=True, others=(OTHER,)) as (engine, _):
        with pytest.raises(RequestError, match="add it to CLAWLAMA_MODELS") as refused:
            await native(engine, "POST", "/api/pull", {"model": "huge:999b"})
        pulled = await native(engine, "POST", "/api/pull", {"model": OTHER})

    assert refused.value.status == 403
    assert json.loads(pulled.content.splitlines()[-1]) == {"status": "success"}


async def test_further_models_are_pulled_beside_and_served_bare(tmp_path: Path) -> None:
    async with ready(tmp_path, pulls=True, others=(OTHER, "nobody")) as (engine, around):
        with pytest.raises(UnknownModel):
            await say(engine, model=OTHER)
        async with anyio.create_task_group() as tg:
            tg.start_soon(engine.pull_others)
            await until(lambda: "no model has this name" in engine.downloads.get("nobody", ""))
            tg.cancel_scope.cancel()
        answer = await say(engine, model=OTHER, options={"num_predict": 2})

        assert engine.served.others == (OTHER,)
        assert answer["model"] == OTHER
        assert list((await around.loaded()).values()) == [512]


async def test_a_server_that_is_gone_delays_further_models_and_breaks_nothing(tmp_path: Path) -> None:
    with anyio.fail_after(60):
        async with world(tmp_path) as around, OllamaEngine(around.setup(others=(OTHER,)), Output) as engine:
            await around.server.stop()
            async with anyio.create_task_group() as tg:
                tg.start_soon(partial(engine.pull_others, again_in=0.01))
                await until(lambda: "does not say whether it has" in engine.downloads.get(OTHER, ""))
                await around.server.start()
                await until(lambda: engine.served.others == (OTHER,))


async def test_models_that_are_there_are_served_at_once_and_one_taken_out_stays_in_the_store(tmp_path: Path) -> None:
    async with ready(tmp_path, pulls=True, others=(OTHER,)) as (engine, around):
        await engine.pull_others()
        async with OllamaEngine(around.setup(others=(OTHER,)), Output) as again:
            await prepare(again)
            await again.pull_others()
            assert again.served.others == (OTHER,)
        async with OllamaEngine(around.setup(), Output) as without:
            await prepare(without)
            await without.pull_others()
            tags = (await native(without, "GET", "/api/tags")).json()["models"]

    assert OTHER in {one["name"] for one in tags}


async def test_nothing_at_the_address_is_told_with_what_to_do(tmp_path: Path) -> None:
    async with world(tmp_path) as around, OllamaEngine(around.setup(), Output) as engine:
        await around.server.stop()
        with pytest.raises(EngineError, match="start Ollama there, set OLLAMA_HOST"):
            await engine.reach(0.3)


async def test_a_changed_plan_is_baked_into_our_tag_anew(house: World) -> None:
    async with ready(house) as (engine, around):
        await engine.tune(replace(TUNING, context=320))
        await engine.start(None)
        await say(engine)

        assert await around.loaded() == {TAG: 320}


async def test_a_server_that_is_gone_is_noticed_and_so_is_its_return(tmp_path: Path) -> None:
    async with ready(tmp_path) as (engine, around), anyio.create_task_group() as tg:
        tg.start_soon(engine.watch, 0.05)
        await around.server.kill()
        await until(lambda: "no Ollama answers at" in engine.trouble)
        await around.server.start()
        await until(lambda: not engine.trouble)
        tg.cancel_scope.cancel()
