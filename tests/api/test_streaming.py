import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.api.stage import ADAPTER, CHAT, HELLO, over_http
from tests.fakes.backend import Wire, answers, chunk, says, streams

pytestmark = pytest.mark.anyio
STREAM = HELLO | {"stream": True}


async def test_the_first_token_arrives_before_the_backend_has_made_the_second(tmp_path: Path) -> None:
    go_on = anyio.Event()

    async def one_then_wait(wire: Wire) -> None:
        await wire.head()
        await wire.send(chunk({"content": "One"}))
        await go_on.wait()
        await wire.send(chunk({"content": " two"}, "stop") + b"data: [DONE]\n\n")
        await wire.end()

    with anyio.fail_after(20):
        async with over_http(tmp_path, one_then_wait) as stage, stage.client.stream("POST", CHAT, json=STREAM) as reply:
            pieces = reply.aiter_bytes()
            assert b"One" in await anext(pieces)
            go_on.set()
            rest = b"".join([piece async for piece in pieces])
    assert b" two" in rest
    assert rest.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("cut", [1, 2, 7, 64, 10**6])
async def test_a_stream_cut_anywhere_arrives_byte_by_byte_the_same(tmp_path: Path, cut: int) -> None:
    sent = b": hello\r\n\r\n" + says("Grüße", " 😀", "!")

    with anyio.fail_after(20):
        async with over_http(tmp_path, streams(sent, cut)) as stage:
            reply = await stage.client.post(CHAT, json=STREAM)
            kept = await stage.recorded()

    assert reply.content == sent
    assert kept.reply == {"role": "assistant", "content": "Grüße 😀!"}
    assert kept.usage == {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}
    assert kept.timings == {"predicted_per_second": 50.0}


async def test_a_reply_is_recorded_with_its_exact_request_before_its_end_is_told(tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "ls", "parameters": {}}}]
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "see"}, image]}]
    body = STREAM | {
        "messages": messages,
        "tools": tools,
        "num_ctx": 7,
        "seed": 2**60,
        "new_option": {"x": [None, 1.5]},
    }

    with anyio.fail_after(20):
        async with over_http(tmp_path) as stage, stage.client.stream("POST", CHAT, json=body) as reply:
            async for line in reply.aiter_lines():
                if line == "data: [DONE]":
                    kept = await stage.journal.completion(reply.headers["x-clawlama-completion"])

    assert kept.request == body == stage.asked[0]
    assert kept.messages == messages
    assert (kept.model, kept.adapter, kept.version, kept.base) == (ADAPTER, ADAPTER, "v0002", "tiny-chat")
    assert reply.headers["x-clawlama-version"] == "v0002"
    assert kept.finish_reason == "stop"
    assert kept.ttft_s is not None
    assert 0 < kept.ttft_s <= kept.total_s


async def test_streamed_tool_calls_are_put_together_by_their_index(tmp_path: Path) -> None:
    def calls(*pieces: dict[str, Any]) -> bytes:
        return chunk({"tool_calls": list(pieces)})

    sent = (
        chunk({"role": "assistant", "content": None, "reasoning_content": "list "})
        + chunk({"reasoning_content": "files"})
        + calls({"index": 0, "id": "a", "type": "function", "function": {"name": "ls", "arguments": ""}})
        + calls({"index": 1, "id": "b", "type": "function", "function": {"name": "cat", "arguments": '{"pa'}})
        + calls({"index": 0, "function": {"arguments": "{}"}}, {"index": 1, "function": {"arguments": 'th": 1}'}})
        + chunk({}, "tool_calls")
        + b"data: [DONE]\n\n"
    )

    async with over_http(tmp_path, streams(sent, 11)) as stage:
        await stage.client.post(CHAT, json=STREAM)
        kept = await stage.recorded()

    assert kept.finish_reason == "tool_calls"
    assert kept.reply == {
        "role": "assistant",
        "content": "",
        "reasoning_content": "list files",
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "ls", "arguments": "{}"}},
            {"id": "b", "type": "function", "function": {"name": "cat", "arguments": '{"path": 1}'}},
        ],
    }


async def test_a_client_that_leaves_stops_the_backend_and_its_part_is_kept(tmp_path: Path) -> None:
    stopped = anyio.Event()

    async def talk_on(wire: Wire) -> None:
        await wire.head()
        await wire.send(chunk({"content": "A long"}))
        await wire.send(chunk({"content": " story"}))
        await wire.left()
        stopped.set()

    with anyio.fail_after(20):
        async with over_http(tmp_path, talk_on) as stage:
            async with stage.client.stream("POST", CHAT, json=STREAM) as reply:
                seen = b""
                async for piece in reply.aiter_bytes():
                    seen += piece
                    if b"story" in seen:
                        break
            kept = await stage.recorded()
            await stopped.wait()

    assert (kept.finish_reason, kept.reply["content"]) == ("cancelled", "A long story")


async def test_a_client_that_leaves_before_the_first_byte_stops_the_backend_too(tmp_path: Path) -> None:
    asked, stopped = anyio.Event(), anyio.Event()

    async def think(wire: Wire) -> None:
        asked.set()
        await wire.left()
        stopped.set()

    with anyio.fail_after(20):
        async with over_http(tmp_path, think) as stage:
            async with anyio.create_task_group() as tg:
                tg.start_soon(lambda: stage.client.post(CHAT, json=STREAM))
                await asked.wait()
                tg.cancel_scope.cancel()
            await stopped.wait()
            assert await stage.journal.completions(1) == []


@pytest.mark.parametrize("politely", [True, False])
async def test_a_backend_that_dies_in_a_stream_is_told_and_its_part_is_kept(tmp_path: Path, *, politely: bool) -> None:
    async def die(wire: Wire) -> None:
        await wire.head()
        await wire.send(chunk({"content": "Once upon"}) + b'data: {"choices": [{"de')
        if politely:
            await wire.end()

    with anyio.fail_after(20):
        async with over_http(tmp_path, die) as stage:
            reply = await stage.client.post(CHAT, json=STREAM)
            kept = await stage.recorded()

    *_, last = [json.loads(line[6:]) for line in reply.text.splitlines() if line.startswith('data: {"error')]
    assert "the engine broke off" in last["error"]["message"]
    assert b"[DONE]" not in reply.content
    assert (kept.finish_reason, kept.reply["content"]) == ("error", "Once upon")


async def test_a_backend_that_dies_before_the_end_of_a_document_is_a_502(tmp_path: Path) -> None:
    async def die(wire: Wire) -> None:
        await wire.head("application/json")
        await wire.send(b'{"choices": [')

    async with over_http(tmp_path, die) as stage:
        reply = await stage.client.post(CHAT, json=HELLO)

    assert reply.status_code == 502
    assert "broke off" in reply.json()["error"]["message"]


async def test_twenty_streams_at_once_are_all_whole_and_all_recorded(tmp_path: Path) -> None:
    async def echo(wire: Wire) -> None:
        words = says(*[f"{wire.body['messages'][0]['content']}-{number} " for number in range(30)])
        await streams(words, 97)(wire)

    texts: dict[str, str] = {}

    async with over_http(tmp_path, echo) as stage:

        async def ask(name: str) -> None:
            body = STREAM | {"messages": [{"role": "user", "content": name}]}
            reply = await stage.client.post(CHAT, json=body)
            texts[name] = reply.headers["x-clawlama-completion"]
            assert reply.content.endswith(b"data: [DONE]\n\n")

        with anyio.fail_after(60):
            async with anyio.create_task_group() as tg:
                for number in range(20):
                    tg.start_soon(ask, f"n{number}")
        for name, completion in texts.items():
            kept = await stage.journal.completion(completion)
            assert kept.reply["content"] == "".join(f"{name}-{number} " for number in range(30))
    assert len(texts) == 20


async def test_a_whole_reply_passes_unchanged_and_is_recorded(tmp_path: Path) -> None:
    message = {"role": "assistant", "content": "Hi", "tool_calls": [{"id": "a", "function": {"name": "x"}}]}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    document = {"id": "1", "choices": choices, "usage": {"total_tokens": 4}, "extra": [1]}

    async with over_http(tmp_path, answers(document, X_Backend="yes", Connection="close")) as stage:
        reply = await stage.client.post(CHAT, json=HELLO)
        kept = await stage.journal.completion(reply.headers["x-clawlama-completion"])

    assert reply.json() == document
    assert reply.headers["x-backend"] == "yes"
    assert kept.reply["content"] == "Hi"
    assert kept.reply["tool_calls"][0]["function"]["name"] == "x"
    assert kept.usage == {"total_tokens": 4}


async def test_a_bare_completion_is_kept_as_a_conversation(tmp_path: Path) -> None:
    document = {"choices": [{"index": 0, "text": " world", "finish_reason": "length"}]}

    async with over_http(tmp_path, answers(document)) as stage:
        await stage.client.post("/v1/completions", json={"model": "tiny-chat", "prompt": "Hello"})
        kept = await stage.recorded()

    assert kept.messages == [{"role": "user", "content": "Hello"}]
    assert (kept.reply["content"], kept.finish_reason, kept.version) == (" world", "length", None)


async def test_an_error_of_the_backend_passes_with_its_status_and_is_no_reply(tmp_path: Path) -> None:
    problem = {"error": {"message": "context too long", "code": 400}}

    async with over_http(tmp_path, answers(problem, status=400)) as stage:
        reply = await stage.client.post(CHAT, json=STREAM)

        assert (reply.status_code, reply.json()) == (400, problem)
        assert await stage.journal.completions(1) == []


async def test_a_compressed_answer_is_readable(tmp_path: Path) -> None:
    import gzip

    content = gzip.compress(json.dumps({"choices": [{"index": 0, "message": {"content": "Hi"}}]}).encode())

    async def zipped(wire: Wire) -> None:
        await wire.head("application/json", Content_Encoding="gzip")
        await wire.send(content)
        await wire.end()

    async with over_http(tmp_path, zipped) as stage:
        reply = await stage.client.post(CHAT, json=HELLO)

    assert reply.json()["choices"][0]["message"]["content"] == "Hi"


async def test_a_backend_that_is_down_is_a_503_that_says_when_to_come_back(tmp_path: Path) -> None:
    async with over_http(tmp_path) as stage:
        stage.engine.url = "http://127.0.0.1:9"
        reply = await stage.client.post(CHAT, json=STREAM)

    assert reply.status_code == 503
    assert int(reply.headers["retry-after"]) > 0
    assert "does not answer" in reply.json()["error"]["message"]


async def test_a_client_in_no_hurry_gets_every_byte(tmp_path: Path) -> None:
    sent = says(*["word " * 2000] * 50)

    async with over_http(tmp_path, streams(sent)) as stage:
        async with stage.client.stream("POST", CHAT, json=STREAM) as reply:
            received = 0
            async for piece in reply.aiter_raw(4096):
                received += len(piece)
                await anyio.lowlevel.checkpoint()
        kept = await stage.recorded()

    assert received == len(sent)
    assert len(kept.reply["content"]) == 50 * 2000 * 5


@pytest.mark.parametrize("strip", ["", "1"])
async def test_events_of_no_known_shape_pass_and_break_nothing(tmp_path: Path, strip: str) -> None:
    values: tuple[Any, ...] = (
        None,
        1,
        "x",
        [],
        {},
        [1, None],
        [{}],
        {"content": [1]},
        {"content": 5},
        [{"index": "a"}],
    )
    odd = [
        *({"choices": value} for value in values),
        *({"choices": [{name: value}]} for name in ("delta", "text", "message", "finish_reason") for value in values),
        *({"choices": [{"delta": {"tool_calls": value}}]} for value in (*values, [{"function": 1, "index": "a"}])),
        *({name: value} for name in ("usage", "timings") for value in values),
        *values,
    ]
    sent = b"".join(f"data: {json.dumps(event)}\n\n".encode() for event in odd) + b"data: {not json\n\nevent: x\n\n"

    with anyio.fail_after(20):
        async with over_http(tmp_path, streams(sent + says("Hi"), 100)) as stage:
            reply = await stage.client.post(CHAT, json=STREAM, headers={"X-Clawlama-Strip-Thinking": strip})
            kept = await stage.recorded()

    assert kept.finish_reason == "stop"
    assert str(kept.reply["content"]).endswith("Hi")
    assert reply.content.endswith(b"data: [DONE]\n\n")
    assert strip or reply.content == sent + says("Hi")


async def test_a_broken_journal_keeps_no_reply_from_its_person_and_shows_in_health(tmp_path: Path) -> None:
    async with over_http(tmp_path) as stage:
        with closing(sqlite3.connect(tmp_path / "journal.db", isolation_level=None)) as raw:
            raw.execute("DROP TABLE completions")
            raw.execute("DROP TABLE lessons")
        reply = await stage.client.post(CHAT, json=STREAM)
        health = (await stage.client.get("/health")).json()

    assert reply.content.endswith(b"data: [DONE]\n\n")
    assert (health["status"], health["phase"]) == ("degraded", "degraded")
    assert "journal" in health["worker"]["error"]
