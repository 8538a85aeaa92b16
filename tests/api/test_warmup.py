"""The turn that we take ourselves at the start."""

import json
from pathlib import Path

import pytest

from supervisor.api.warmup import WarmUp, answered, prompt_tokens, shortened
from tests.api.stage import CHAT, in_process
from tests.fakes.backend import Wire

pytestmark = pytest.mark.anyio

SYSTEM = {"role": "system", "content": "A long beginning"}
TOOLS = [{"type": "function", "function": {"name": "exec", "parameters": {}}}]


def body(text: str, **more: object) -> dict[str, object]:
    return {"model": "openclaw/assistant", "messages": [SYSTEM, {"role": "user", "content": text}], **more}


async def read(wire: Wire) -> None:
    await wire.document({"choices": [{"message": {"content": "R"}}], "usage": {"prompt_tokens": 312}})


@pytest.mark.parametrize("stream", [True, False])
async def test_it_is_answered_at_the_door_and_is_no_completion_of_anybody(tmp_path: Path, stream: bool) -> None:
    warm_up = WarmUp()
    async with in_process(tmp_path, read, warm_up=warm_up) as stage:
        answer = await stage.client.post(CHAT, json=body(f"Say ready ({warm_up.word})", stream=stream))
        recorded = await stage.journal.completions(10)

    assert answer.status_code == 200
    assert "ready" in answer.text
    assert recorded == []
    assert (warm_up.prompt_tokens, warm_up.seconds is not None) == (312, True)


def test_it_is_known_behind_what_openclaw_writes_for_itself() -> None:
    warm_up = WarmUp()
    asked = [{"role": "user", "content": [{"type": "text", "text": f"Say ready ({warm_up.word})"}]}]

    assert warm_up.is_meant([SYSTEM, *asked, {"role": "user", "content": "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>"}])
    assert not warm_up.is_meant([{"role": "assistant", "content": warm_up.word}])


async def test_words_that_do_not_name_it_are_an_ordinary_turn(tmp_path: Path) -> None:
    async with in_process(tmp_path) as stage:
        await stage.client.post(CHAT, json=body("warm-up-0000000000000000"))

        assert len(await stage.journal.completions(10)) == 1


def test_the_model_reads_the_same_beginning_and_writes_one_token() -> None:
    sent = body("x", stream=True, stream_options={"include_usage": True}, tools=TOOLS, max_completion_tokens=4096)
    native = body("x", tools=TOOLS, options={"num_ctx": 8192, "num_predict": 4096})

    asked, asked_native = shortened("/v1/chat/completions", sent), shortened("/api/chat", native)

    assert (asked["messages"][0], asked["tools"], asked["max_tokens"]) == (SYSTEM, TOOLS, 1)
    assert not {"stream_options", "max_completion_tokens"} & asked.keys()
    assert asked_native["options"] == {"num_ctx": 8192, "num_predict": 1}
    assert asked["stream"] is asked_native["stream"] is False


def test_a_native_client_gets_a_native_answer() -> None:
    line = json.loads(bytes(answered("/api/chat", body("x")).body))

    assert (line["message"]["content"], line["done"], line["done_reason"]) == ("ready", True, "stop")


def test_either_form_tells_how_long_the_prompt_was() -> None:
    assert prompt_tokens({"usage": {"prompt_tokens": 312}}) == 312
    assert prompt_tokens({"prompt_eval_count": 4512}) == 4512
    assert prompt_tokens({"usage": None}) is None
