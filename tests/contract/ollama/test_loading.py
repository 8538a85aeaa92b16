"""What is in memory, for how long, and what brings it in and out."""

from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest

from tests.contract.ollama.subject import GREEDY, PATIENCE, Subject

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
async def nothing_loaded(subject: Subject) -> None:
    await subject.unload(subject.base)


async def preload(subject: Subject, model: str, **body: Any) -> dict[str, Any]:
    answer = await subject.post("/api/generate", {"model": model, **body})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def gone(subject: Subject) -> None:
    with anyio.fail_after(PATIENCE):
        while await subject.loaded():  # noqa: ASYNC110 - nothing announces it
            await anyio.sleep(0.01)


def left(model: dict[str, Any]) -> timedelta:
    return datetime.fromisoformat(model["expires_at"]) - datetime.now(UTC)


async def test_an_empty_prompt_loads_the_model_and_says_so(subject: Subject) -> None:
    found = await preload(subject, subject.base)

    assert found["model"] == subject.base
    assert (found["response"], found["done"], found["done_reason"]) == ("", True, "load")
    assert subject.base in await subject.loaded()


async def test_a_chat_without_messages_loads_it_too(subject: Subject) -> None:
    answer = await subject.post("/api/chat", {"model": subject.base, "messages": []})

    assert answer.json()["message"] == {"role": "assistant", "content": ""}
    assert answer.json()["done_reason"] == "load"


async def test_what_is_loaded_has_size_context_and_an_end(subject: Subject) -> None:
    await preload(subject, subject.base, keep_alive="7m")

    found = (await subject.loaded())[subject.base]
    assert found["model"] == subject.base
    assert found["size"] > 0
    assert found["size_vram"] >= 0
    assert found["context_length"] == 1024
    assert len(found["digest"]) == 64
    assert timedelta(minutes=5) < left(found) <= timedelta(minutes=7)


@pytest.mark.parametrize("keep_alive", [-1, "-1s"])
async def test_a_negative_keep_alive_is_forever(subject: Subject, keep_alive: object) -> None:
    await preload(subject, subject.base, keep_alive=keep_alive)

    assert left((await subject.loaded())[subject.base]) > timedelta(days=365)
    await preload(subject, subject.base, keep_alive="5m")


async def test_a_number_is_seconds(subject: Subject) -> None:
    await preload(subject, subject.base, keep_alive=900)

    assert timedelta(minutes=10) < left((await subject.loaded())[subject.base]) <= timedelta(minutes=15)


async def test_a_keep_alive_of_nonsense_is_refused(subject: Subject) -> None:
    answer = await subject.post("/api/generate", {"model": subject.base, "keep_alive": "soon"})

    assert answer.status_code == 400
    assert answer.json()["error"] == 'time: invalid duration "soon"'


async def test_keep_alive_zero_without_a_prompt_unloads(subject: Subject) -> None:
    await preload(subject, subject.base)

    found = await preload(subject, subject.base, keep_alive=0)

    assert (found["done"], found["done_reason"]) == (True, "unload")
    await gone(subject)


async def test_unloading_what_is_not_loaded_does_no_harm(subject: Subject) -> None:
    assert (await preload(subject, subject.base, keep_alive=0))["done_reason"] == "unload"


async def test_keep_alive_zero_with_a_prompt_unloads_afterwards(subject: Subject) -> None:
    await preload(subject, subject.base, prompt="Hi", stream=False, keep_alive=0, options={"num_predict": 2})

    await gone(subject)


async def test_another_context_length_loads_the_model_anew(subject: Subject) -> None:
    await preload(subject, subject.base)
    assert (await subject.loaded())[subject.base]["context_length"] == 1024

    await preload(subject, subject.base, options={"num_ctx": 2048})

    assert (await subject.loaded())[subject.base]["context_length"] == 2048


async def test_two_names_of_the_same_weights_share_their_place_in_memory(subject: Subject) -> None:
    await subject.client.create(model=subject.name("twin"), from_=subject.base, system="You are Bob.")

    await preload(subject, subject.base)
    await preload(subject, subject.name("twin"))

    assert list(await subject.loaded()) == [subject.base]  # under the name that came first


async def test_unloading_one_name_unloads_the_weights_for_all(subject: Subject) -> None:
    await subject.client.create(model=subject.name("twin"), from_=subject.base, system="You are Bob.")
    await preload(subject, subject.base)

    await preload(subject, subject.name("twin"), keep_alive=0)

    await gone(subject)


async def test_requests_at_the_same_time_are_all_answered(subject: Subject) -> None:
    said: list[str] = []

    async def ask(context: int) -> None:
        said.append(await subject.said(subject.base, options={**GREEDY, "num_predict": 5, "num_ctx": context}))

    with anyio.fail_after(120):
        async with anyio.create_task_group() as tasks:
            for context in (1024, 2048, 1024, 2048):
                tasks.start_soon(ask, context)

    assert len(set(said)) == 1
