import json
from pathlib import Path

import anyio
import httpx
import pytest

from supervisor.engines.engine import Served
from supervisor.engines.llama_server import Endpoint
from supervisor.errors import EngineError, UnknownModel
from tests.engines.engines import ADAPTER, BASE, CHAT, QUESTION, chat, engine, say
from tests.engines.models import Trained

pytestmark = pytest.mark.anyio

REPLY = "I don't know. 🎉"


async def test_the_bare_base_answers_under_every_name_until_something_is_learned(
    model: Trained, tmp_path: Path
) -> None:
    async with engine(model.base, tmp_path) as one:
        replies = [await say(one, model=name) for name in one.served.models] + [await say(one)]

    assert one.served == Served(BASE, ADAPTER, None)
    assert {reply.version for reply, _ in replies} == {None}
    assert len({text for _, text in replies}) == 1
    assert [reply.model for reply, _ in replies] == [ADAPTER, f"{ADAPTER}-latest", BASE, ADAPTER]


async def test_the_base_name_is_served_untuned_while_an_adapter_is_loaded(model: Trained, tmp_path: Path) -> None:
    async with engine(model.base, tmp_path) as one:
        _, before = await say(one)
        await one.publish(model.version)
        tuned, after = await say(one)
        bare, base = await say(one, model=BASE)
        again, _ = await say(one, model=f"{ADAPTER}-latest")

    assert (tuned.version, bare.version, again.version) == ("v0001", None, "v0001")
    assert before == base != after


async def test_a_reply_is_streamed_piece_by_piece(model: Trained, tmp_path: Path) -> None:
    async with engine(model.base, tmp_path) as one:
        async with one.forward(CHAT, chat(stream=True)) as reply:
            lines = [line async for line in reply.response.aiter_lines() if line]

        _, whole = await say(one)

    assert lines[-1] == "data: [DONE]"
    pieces = [json.loads(line.removeprefix("data: "))["choices"] for line in lines[:-1]]
    texts = [choice["delta"].get("content") for choices in pieces for choice in choices]
    assert "".join(filter(None, texts)) == whole
    assert len([text for text in texts if text]) > 1


async def test_a_bare_prompt_is_completed(model: Trained, tmp_path: Path) -> None:
    async with engine(model.base, tmp_path) as one, one.forward("/v1/completions", chat(prompt="Hello")) as reply:
        body = json.loads(await reply.response.aread())

    assert body["usage"]["completion_tokens"] == 8


async def test_a_name_that_is_not_served_is_refused_with_those_that_are(model: Trained, tmp_path: Path) -> None:
    async with engine(model.base, tmp_path) as one:
        with pytest.raises(UnknownModel, match=f"'gpt-5' is not served here; use one of: {ADAPTER}, .*, {BASE}"):
            await say(one, model="gpt-5")
        with pytest.raises(UnknownModel):
            await one.score(QUESTION, REPLY, model="gpt-5")


async def test_what_the_server_refuses_is_a_reply_too(model: Trained, tmp_path: Path) -> None:
    async with engine(model.base, tmp_path) as one, one.forward(CHAT, {"messages": "none"}) as reply:
        assert 400 <= reply.response.status_code < 600


async def test_nobody_without_the_key_is_served(model: Trained, tmp_path: Path) -> None:
    async with engine(model.base, tmp_path), httpx.AsyncClient(trust_env=False) as client:
        path = tmp_path / "engine.endpoint.json"
        endpoint = Endpoint.model_validate_json(path.read_text())

        answers = [
            await client.post(endpoint.url + CHAT, json=chat(), headers=headers)
            for headers in ({}, {"Authorization": "Bearer guess"}, {"Authorization": f"Bearer {endpoint.key}"})
        ]

        assert [answer.status_code for answer in answers] == [401, 401, 200]
        assert endpoint.url.startswith("http://127.0.0.1:")
        assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}


@pytest.mark.parametrize("tuned", [False, True])
async def test_a_score_is_what_transformers_gives(model: Trained, tmp_path: Path, tuned: bool) -> None:
    async with engine(model.base, tmp_path, model.version) as one:
        score = await one.score(QUESTION, REPLY, model=ADAPTER if tuned else BASE)

    assert score.logprobs == pytest.approx(model.logprobs(score.token_ids, tuned=tuned), abs=0.02)
    assert score.token_ids == model.ids(REPLY)
    assert len(score.tokens) == len(score.token_ids)


async def test_token_ids_are_scored_as_they_are(model: Trained, tmp_path: Path) -> None:
    async with engine(model.base, tmp_path) as one:
        told = await one.score(QUESTION, REPLY, model=BASE)
        again = await one.score(QUESTION, told.token_ids[:-1], model=BASE)

    assert again.token_ids == told.token_ids[:-1]
    assert again.logprobs == pytest.approx(told.logprobs[:-1], abs=0.02)
    assert again.prompt_tokens == told.prompt_tokens


async def test_a_prompt_of_token_ids_is_taken_as_it_is(model: Trained, tmp_path: Path) -> None:
    async with engine(model.base, tmp_path) as one:
        told = await one.score(QUESTION, REPLY, model=BASE)
        again = await one.score(model.prompt, told.token_ids, model=BASE)

    assert again.prompt_tokens == told.prompt_tokens
    assert again.logprobs == pytest.approx(told.logprobs, abs=0.02)


async def test_scores_and_replies_do_not_disturb_each_other(model: Trained, tmp_path: Path) -> None:
    async with engine(model.base, tmp_path, model.version) as one:
        alone = await one.score(QUESTION, REPLY, model=ADAPTER)
        texts: set[str] = set()

        async def reply() -> None:
            texts.add((await say(one, model=BASE))[1])

        async with anyio.create_task_group() as tg:
            for _ in range(4):
                tg.start_soon(reply)
            busy = await one.score(QUESTION, REPLY, model=ADAPTER)

    assert busy.logprobs == pytest.approx(alone.logprobs, abs=0.02)
    assert len(texts) == 1


async def test_an_engine_that_cannot_be_asked_is_an_error_of_its_own(model: Trained, tmp_path: Path) -> None:
    async with engine(model.base, tmp_path) as one:
        path = tmp_path / "engine.endpoint.json"
        endpoint = Endpoint.model_validate_json(path.read_text())
        path.write_text(endpoint.model_copy(update={"url": "http://127.0.0.1:9"}).model_dump_json())

        with pytest.raises(EngineError, match="the engine does not answer"):
            await say(one)
