"""Versions come and go while people chat: what answers, and what its probabilities are."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from supervisor.engines.engine import Passage, Seen, Version
from supervisor.engines.ollama.engine import OllamaEngine
from supervisor.errors import EngineError, NotServed
from supervisor.services.output import Output
from tests.engines.engines import QUESTION
from tests.engines.models import Trained
from tests.engines.ollama.desk import version
from tests.engines.ollama.world import ADAPTER, BASE, World, prepare, say, stocked

pytestmark = pytest.mark.anyio
EIGHT = {"messages": QUESTION, "options": {"num_predict": 8, "temperature": 0.0}}


@asynccontextmanager
async def serving(
    model: Trained, folder: Path, setup: dict[str, Any] | None = None, **quirks: Any
) -> AsyncIterator[tuple[OllamaEngine, World]]:
    """The bare base of a small random model, ready."""
    with anyio.fail_after(120):
        async with (
            stocked(folder, model.base / "model.gguf", **quirks) as around,
            OllamaEngine(around.setup(**(setup or {})), Output) as engine,
        ):
            await prepare(engine)
            yield engine, around


def passage(model: Trained, size: int = 6) -> Passage:
    """QUESTION and a reply that the tuned model finds likely, with the place of each token in the text."""
    prompt = str(model.tokenizer.apply_chat_template(QUESTION, tokenize=False, add_generation_prompt=True))
    ids, text, starts = list(model.prompt), prompt, []
    tuned = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model.base), model.adapter)
    readable = [token for token in range(len(model.tokenizer)) if model.tokenizer.decode([token]).isalpha()]
    for _ in range(size):
        with torch.inference_mode():
            logits = tuned(torch.tensor([ids])).logits[0, -1]  # (vocabulary,)
        best = readable[int(logits[readable].argmax())]
        split = model.tokenizer(text)["input_ids"]
        starts.append(len(text) if split == ids else None)
        ids.append(best)
        text += model.tokenizer.decode([best])
    reply = tuple(ids[-size:])
    return Passage(tuple(model.prompt), reply, text, tuple(starts), tuple(map(model.tokenizer.decode, reply)))


@pytest.mark.parametrize("way", ["create", "manifest", "merge"])
async def test_a_published_version_has_the_probabilities_that_it_was_trained_to(
    way: str, model: Trained, tmp_path: Path
) -> None:
    told = passage(model)
    positions = range(len(told.reply))
    told_live: list[str | None] = []

    async with serving(model, tmp_path, {"publish": way}) as (engine, _):

        async def live() -> bool:
            told_live.append(engine.served.version)
            return True

        bare = await engine.look(told, positions, model=ADAPTER)
        await engine.publish(version(model, tmp_path), live)
        tuned = await engine.look(told, positions, model=ADAPTER)
        base = await engine.look(told, positions, model=BASE)

    assert told_live == ["v0001"]
    compare(bare, model.logprobs(told.reply, tuned=False))
    compare(base, model.logprobs(told.reply, tuned=False))
    compare(tuned, model.logprobs(told.reply, tuned=True))


def compare(seen: tuple[Seen | None, ...], truth: list[float]) -> None:
    """What is exact is true, and a bound is one."""
    exact = 0
    for one, logprob in zip(seen, truth, strict=True):
        if one is not None and one.exact:
            exact += 1
            assert one.logprob == pytest.approx(logprob, abs=0.03)
        elif one is not None:
            assert logprob <= one.logprob + 0.03
    assert exact


async def test_a_version_that_is_not_live_leaves_the_one_before_serving_to_those_who_chat(
    model: Trained, tmp_path: Path
) -> None:
    said: list[str] = []

    async def no() -> bool:
        return False

    async with serving(model, tmp_path) as (engine, _):
        bare = (await say(engine, **EIGHT))["message"]["content"]

        async def chat() -> None:
            while True:
                said.append((await say(engine, **EIGHT))["message"]["content"])

        async with anyio.create_task_group() as tg:
            tg.start_soon(chat)
            with pytest.raises(NotServed):
                await engine.publish(version(model, tmp_path), no)
            tg.cancel_scope.cancel()
        again = (await say(engine, **EIGHT))["message"]["content"]

        assert engine.served.version is None
    assert again == bare
    assert bare in said


async def test_an_adapter_that_does_not_load_leaves_the_one_before_serving(model: Trained, tmp_path: Path) -> None:
    setup = {"publish": "create"}

    async with serving(model, tmp_path, setup, adapters="no_load") as (engine, _):
        with pytest.raises(EngineError, match="cannot load"):
            await engine.publish(version(model, tmp_path))
        answer = await say(engine, **EIGHT)

        assert engine.served.version is None
    assert answer["done"]


async def test_everybody_who_chats_through_a_switch_gets_a_whole_reply(model: Trained, tmp_path: Path) -> None:
    versions: list[str | None] = []

    async with serving(model, tmp_path) as (engine, _), anyio.create_task_group() as tg:
        done = anyio.Event()

        async def chat() -> None:
            while not done.is_set():
                async with engine.forward("/api/chat", {**EIGHT, "stream": False}) as reply:
                    await reply.response.aread()
                assert reply.response.json()["done"], reply.response.text
                versions.append(reply.version)

        for _ in range(2):
            tg.start_soon(chat)
        for number in (1, 2):
            await engine.publish(version(model, tmp_path, number))
        await engine.publish(None)
        served = len(versions)
        while len(versions) < served + 4:  # noqa: ASYNC110
            await anyio.sleep(0.01)
        done.set()

    assert versions[-1] is None
    assert {"v0001", "v0002"} & set(versions)


async def test_a_new_version_is_loaded_with_the_remembered_request(model: Trained, tmp_path: Path) -> None:
    typical = {**EIGHT, "options": {"num_ctx": 300, "num_predict": 1}, "stream": False}

    async with serving(model, tmp_path) as (engine, around):
        engine.remember("/api/chat", typical)
        await engine.publish(version(model, tmp_path))

        assert await around.loaded() == {"clawlama/openclaw-assistant:v0001": 300}


async def test_older_versions_leave_the_servers_store_but_not_ours(model: Trained, tmp_path: Path) -> None:
    async with serving(model, tmp_path, {"keep_versions": 1}) as (engine, around):
        made = [version(model, tmp_path, number) for number in (1, 2)]
        for one in made:
            await engine.publish(one)
        async with around.client as client:
            tags = {str(one.model) for one in (await client.list()).models}

    assert "clawlama/openclaw-assistant:v0002" in tags
    assert "clawlama/openclaw-assistant:v0001" not in tags
    assert all(one.gguf.is_file() for one in made)


async def test_a_version_is_not_taken_while_the_engine_rests(model: Trained, tmp_path: Path) -> None:
    async with serving(model, tmp_path) as (engine, _):
        await engine.rest()
        with pytest.raises(EngineError, match="wake it"):
            await engine.publish(Version("v0001", model.version.gguf))
        await engine.wake()
        await engine.publish(version(model, tmp_path))

        assert engine.served.version == "v0001"
