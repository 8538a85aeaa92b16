"""/v1: what our own API passes on to."""

import json
from base64 import b64decode
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from tests.contract.ollama.subject import QUESTION, Subject

pytestmark = pytest.mark.anyio
Observed = Callable[[str], None]
FEW: dict[str, Any] = {"temperature": 0, "seed": 7, "max_tokens": 8}


async def events(subject: Subject, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """Of a stream that has to end with [DONE]."""
    with anyio.fail_after(120):
        async with subject.http.stream("POST", path, json={**body, "stream": True}) as answer:
            assert answer.status_code == 200, await answer.aread()
            assert answer.headers["content-type"].startswith("text/event-stream")
            lines = [line.removeprefix("data: ") async for line in answer.aiter_lines() if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


async def test_a_chat_is_answered_in_openais_shape(subject: Subject) -> None:
    answer = await subject.post("/v1/chat/completions", {"model": subject.base, "messages": QUESTION, **FEW})

    found = answer.json()
    assert found["object"] == "chat.completion"
    assert found["model"] == subject.base
    assert found["choices"][0]["message"]["role"] == "assistant"
    assert found["choices"][0]["finish_reason"] == "length"
    usage = found["usage"]
    assert usage["completion_tokens"] == 8
    assert usage["total_tokens"] == usage["prompt_tokens"] + 8


async def test_it_says_what_the_native_route_says(subject: Subject) -> None:
    answer = await subject.post("/v1/chat/completions", {"model": subject.base, "messages": QUESTION, **FEW})

    native = await subject.said(subject.base, options={"temperature": 0, "seed": 7, "num_predict": 8})
    assert answer.json()["choices"][0]["message"]["content"] == native


async def test_a_streamed_chat_adds_up_and_tells_its_usage_when_asked(subject: Subject) -> None:
    body = {"model": subject.base, "messages": QUESTION, **FEW, "stream_options": {"include_usage": True}}

    found = await events(subject, "/v1/chat/completions", body)

    whole = (await subject.post("/v1/chat/completions", body)).json()["choices"][0]["message"]["content"]
    assert all(event["object"] == "chat.completion.chunk" for event in found)
    deltas = [event["choices"][0]["delta"].get("content") or "" for event in found if event["choices"]]
    assert "".join(deltas) == whole
    assert found[-1]["choices"] == []
    assert found[-1]["usage"]["completion_tokens"] == 8
    assert [event["choices"][0]["finish_reason"] for event in found if event["choices"]][-1] == "length"


async def test_logprobs_come_with_the_choice(subject: Subject) -> None:
    body = {"model": subject.base, "messages": QUESTION, **FEW, "logprobs": True, "top_logprobs": 2}

    choice = (await subject.post("/v1/chat/completions", body)).json()["choices"][0]

    tokens = choice["logprobs"]["content"]
    assert bytes(byte for token in tokens for byte in token["bytes"]).decode() == choice["message"]["content"]
    assert all(len(token["top_logprobs"]) == 2 for token in tokens)


async def test_content_may_come_in_parts(subject: Subject) -> None:
    parts = [{"role": "user", "content": [{"type": "text", "text": "What is your name?"}]}]

    one = await subject.post("/v1/chat/completions", {"model": subject.base, "messages": QUESTION, **FEW})
    other = await subject.post("/v1/chat/completions", {"model": subject.base, "messages": parts, **FEW})

    assert one.json()["choices"] == other.json()["choices"]


async def test_a_chat_without_messages_is_refused(subject: Subject) -> None:
    answer = await subject.post("/v1/chat/completions", {"model": subject.base, "messages": []})

    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "[] is too short - 'messages'"
    assert answer.json()["error"]["type"] == "invalid_request_error"


async def test_an_unknown_model_is_404_in_openais_shape(subject: Subject) -> None:
    answer = await subject.post("/v1/chat/completions", {"model": "clawlama-nobody/x:y", "messages": QUESTION})

    assert answer.status_code == 404
    assert answer.json()["error"]["message"] == "model 'clawlama-nobody/x:y' not found"
    assert answer.json()["error"]["type"] == "not_found_error"


async def test_sampling_that_the_request_leaves_open_is_the_models_own_or_one(
    subject: Subject, observed: Observed
) -> None:
    greedy = subject.name("greedy")
    await subject.client.create(model=greedy, from_=subject.base, parameters={"temperature": 0})
    asked = {"model": greedy, "messages": [{"role": "user", "content": "Tell me a story."}], "max_tokens": 24}

    replies = [(await subject.post("/v1/chat/completions", {**asked, "seed": seed})).json() for seed in range(4)]

    texts = {reply["choices"][0]["message"]["content"] for reply in replies}
    observed("the model's own parameters" if len(texts) == 1 else "1.0, over the model's own parameters")
    assert all(texts)


async def test_options_and_keep_alive_are_passed_over(subject: Subject) -> None:
    await subject.unload(subject.base)
    body = {"model": subject.base, "messages": QUESTION, **FEW, "options": {"num_ctx": 2048}, "keep_alive": 0}

    assert (await subject.post("/v1/chat/completions", body)).status_code == 200

    assert (await subject.loaded())[subject.base]["context_length"] == 1024


async def test_the_newer_name_of_max_tokens_counts_or_does_not(subject: Subject, observed: Observed) -> None:
    body = {"model": subject.base, "messages": QUESTION, "temperature": 0, "max_completion_tokens": 3}

    usage = (await subject.post("/v1/chat/completions", body)).json()["usage"]

    observed("counts" if usage["completion_tokens"] == 3 else "is passed over")
    assert usage["completion_tokens"] > 0


async def test_a_text_is_completed(subject: Subject) -> None:
    body = {"model": subject.base, "prompt": "What is your name?", **FEW}

    whole = (await subject.post("/v1/completions", body)).json()
    streamed = await events(subject, "/v1/completions", body)

    assert whole["object"] == "text_completion"
    assert "".join(event["choices"][0]["text"] for event in streamed if event["choices"]) == whole["choices"][0]["text"]


async def test_a_prompt_of_token_ids_is_refused(subject: Subject) -> None:
    answer = await subject.post("/v1/completions", {"model": subject.base, "prompt": [1, 2, 3], **FEW})

    assert answer.status_code == 400


async def test_the_models_are_listed_and_looked_up(subject: Subject) -> None:
    listed = (await subject.http.get("/v1/models")).json()
    one = (await subject.http.get(f"/v1/models/{subject.base.replace('/', '%2F')}")).json()

    assert listed["object"] == "list"
    assert subject.base in [model["id"] for model in listed["data"]]
    assert (one["id"], one["object"], one["owned_by"]) == (subject.base, "model", subject.prefix)


async def test_embeddings_come_as_numbers_or_packed(subject: Subject) -> None:
    body = {"model": subject.base, "input": ["one", "two"]}

    numbers = (await subject.post("/v1/embeddings", body)).json()
    packed = (await subject.post("/v1/embeddings", {**body, "encoding_format": "base64"})).json()

    assert [entry["index"] for entry in numbers["data"]] == [0, 1]
    assert len(b64decode(packed["data"][0]["embedding"])) == 4 * len(numbers["data"][0]["embedding"])
    assert numbers["usage"]["prompt_tokens"] > 0
