"""Ollama's own routes at our door: streamed as they come, recorded before their end is told."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, get_args

import anyio
import ollama
import pytest

from supervisor.engines.engine import Route
from tests.api.stage import ADAPTER, TOKEN, Stage, over_http
from tests.fakes.backend import Script, Wire, answers
from tests.fakes.ndjson import NUMBERS, line, lines

pytestmark = pytest.mark.anyio

CHAT = "/api/chat"
ASKED: dict[str, Any] = {"model": ADAPTER, "messages": [{"role": "user", "content": "Hello"}]}
HI = line("Hi") + line(" there", done="stop")


@asynccontextmanager
async def at_the_door(folder: Path, script: Script) -> AsyncIterator[Stage]:
    """Over a socket, with an engine that takes Ollama's routes."""
    with anyio.fail_after(20):
        async with over_http(folder, script) as stage:
            stage.engine.routes = frozenset(get_args(Route))
            yield stage


async def test_the_first_line_arrives_before_the_backend_has_made_the_second(tmp_path: Path) -> None:
    go_on = anyio.Event()

    async def one_then_wait(wire: Wire) -> None:
        await wire.head("application/x-ndjson")
        await wire.send(line("One"))
        await go_on.wait()
        await wire.send(line(" two", done="stop"))
        await wire.end()

    async with at_the_door(tmp_path, one_then_wait) as stage, stage.client.stream("POST", CHAT, json=ASKED) as reply:
        received = reply.aiter_lines()
        first = json.loads(await anext(received))
        go_on.set()
        rest = [json.loads(text) async for text in received]

    assert first["message"]["content"] == "One"
    assert [part["done"] for part in rest] == [True]


@pytest.mark.parametrize("cut", [1, 7, 64, 10**6])
async def test_lines_cut_anywhere_arrive_byte_by_byte_the_same_and_are_recorded(tmp_path: Path, cut: int) -> None:
    sent = line("", thinking="A greeting") + line("Grüße") + line(" 😀") + line("!", done="stop")

    async with at_the_door(tmp_path, lines(sent, cut)) as stage:
        reply = await stage.client.post(CHAT, json=ASKED)
        kept = await stage.journal.completion(reply.headers["x-clawlama-completion"])

    assert reply.content == sent
    assert kept.reply == {"role": "assistant", "content": "Grüße 😀!", "reasoning_content": "A greeting"}
    assert (kept.route, kept.finish_reason, kept.request, kept.version) == (CHAT, "stop", ASKED, "v0002")
    assert kept.usage == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    assert kept.timings is not None
    assert kept.timings["predicted_per_second"] == 500


async def test_a_reply_is_in_the_journal_before_its_last_line_is_told(tmp_path: Path) -> None:
    async with at_the_door(tmp_path, lines(HI)) as stage, stage.client.stream("POST", CHAT, json=ASKED) as reply:
        async for text in reply.aiter_lines():
            if json.loads(text)["done"]:
                kept = await stage.journal.completion(reply.headers["x-clawlama-completion"])

    assert kept.reply["content"] == "Hi there"


async def test_tool_calls_of_several_lines_are_all_kept(tmp_path: Path) -> None:
    def call(name: str, **arguments: Any) -> dict[str, Any]:
        return {"tool_calls": [{"function": {"index": 0, "name": name, "arguments": arguments}}]}

    sent = line(**call("ls", path="/")) + line(**call("cat", path="a")) + line(done="stop")

    async with at_the_door(tmp_path, lines(sent)) as stage:
        await stage.client.post(CHAT, json=ASKED)
        kept = await stage.recorded()

    assert kept.reply["tool_calls"] == [
        {"type": "function", "function": {"name": "ls", "arguments": {"path": "/"}}},
        {"type": "function", "function": {"name": "cat", "arguments": {"path": "a"}}},
    ]


async def test_a_whole_answer_passes_unchanged_and_is_recorded(tmp_path: Path) -> None:
    document = {"model": "tiny", "response": "Hi", "thinking": "Hm", "done": True, "done_reason": "length", **NUMBERS}
    body = {"prompt": "Hello", "system": "Be kind", "stream": False}

    async with at_the_door(tmp_path, answers(document)) as stage:
        reply = await stage.client.post("/api/generate", json=body)
        kept = await stage.recorded()

    assert reply.json() == document
    assert kept.messages == [{"role": "system", "content": "Be kind"}, {"role": "user", "content": "Hello"}]
    assert (kept.reply["content"], kept.reply["reasoning_content"], kept.finish_reason) == ("Hi", "Hm", "length")


@pytest.mark.parametrize("politely", [True, False])
async def test_a_backend_that_dies_is_told_in_a_last_line_and_its_part_is_kept(tmp_path: Path, politely: bool) -> None:
    async def die(wire: Wire) -> None:
        await wire.head("application/x-ndjson")
        await wire.send(line("Once upon") + b'{"model": "ti')
        if politely:
            await wire.end()

    async with at_the_door(tmp_path, die) as stage:
        reply = await stage.client.post(CHAT, json=ASKED)
        kept = await stage.recorded()

    assert "the engine broke off" in json.loads(reply.content.splitlines()[-1])["error"]
    assert (kept.finish_reason, kept.reply["content"]) == ("error", "Once upon")


async def test_a_client_that_leaves_stops_the_backend_and_its_part_is_kept(tmp_path: Path) -> None:
    stopped = anyio.Event()

    async def talk_on(wire: Wire) -> None:
        await wire.head("application/x-ndjson")
        await wire.send(line("A long"))
        await wire.left()
        stopped.set()

    async with at_the_door(tmp_path, talk_on) as stage:
        async with stage.client.stream("POST", CHAT, json=ASKED) as reply:
            await anext(reply.aiter_lines())
        kept = await stage.recorded()
        await stopped.wait()

    assert (kept.finish_reason, kept.reply["content"]) == ("cancelled", "A long")


async def test_thinking_is_hidden_from_who_asks_for_that_and_kept_in_the_journal(tmp_path: Path) -> None:
    sent = line(thinking="Hm") + line("<think>se") + line("cret</think> Hi") + line(" there", done="stop")

    async with at_the_door(tmp_path, lines(sent)) as stage:
        reply = await stage.client.post(CHAT, json=ASKED | {"clawlama": {"strip_thinking": True}})
        kept = await stage.recorded()

    parts = [json.loads(text)["message"] for text in reply.text.splitlines()]
    assert parts == [{"role": "assistant", "content": "Hi"}, {"role": "assistant", "content": " there"}]
    assert kept.reply["content"] == "<think>secret</think> Hi there"
    assert "clawlama" not in stage.asked[0]


@pytest.mark.parametrize("path", [CHAT, "/api/generate"])
async def test_loading_a_model_is_no_completion(tmp_path: Path, path: str) -> None:
    async with at_the_door(tmp_path, answers({"done": True, "done_reason": "load"})) as stage:
        reply = await stage.client.post(path, json={"model": ADAPTER})

        assert reply.json()["done_reason"] == "load"
        assert await stage.journal.completions(1) == []


async def test_what_is_closed_is_refused_before_its_body_is_read(tmp_path: Path) -> None:
    async with at_the_door(tmp_path, answers({})) as stage:
        reply = await stage.client.post("/api/create", content=b"{" * 10)

    assert (reply.status_code, stage.asked) == (403, [])
    assert "closed" in reply.json()["error"]


async def test_an_engine_without_these_routes_says_so(tmp_path: Path) -> None:
    with anyio.fail_after(20):
        async with over_http(tmp_path) as stage:
            replies = [await stage.client.post(path, json=ASKED) for path in (CHAT, "/api/generate", "/api/show")]

    assert [reply.status_code for reply in replies] == [404, 404, 404]
    assert replies[0].json() == {"error": "there is no POST /api/chat here"}


@pytest.mark.parametrize(
    ("method", "path"), [("POST", CHAT), ("GET", "/api/tags"), ("GET", f"/api/version?token={TOKEN}")]
)
async def test_without_the_token_nothing_is_told_in_a_shape_that_ollamas_clients_read(
    tmp_path: Path, method: str, path: str
) -> None:
    async with at_the_door(tmp_path, lines(HI)) as stage:
        reply = await stage.client.request(method, path, headers={"Authorization": ""})

    assert reply.status_code == 401
    assert "token" in reply.json()["error"]


async def test_the_official_client_chats_with_the_token_as_a_header(tmp_path: Path) -> None:
    async with at_the_door(tmp_path, lines(HI)) as stage:
        client = ollama.AsyncClient(stage.url, headers={"Authorization": f"Bearer {TOKEN}"}, trust_env=False)
        async with client:
            parts = [part async for part in await client.chat(ADAPTER, ASKED["messages"], stream=True)]
            with pytest.raises(ollama.ResponseError, match="use one of: openclaw/assistant"):
                await client.chat("gpt-9", ASKED["messages"])

    assert "".join(part.message.content or "" for part in parts) == "Hi there"


@pytest.mark.parametrize("value", [None, 1, "x", [], {}, [1], {"content": [1], "tool_calls": [1, {"function": 2}]}])
@pytest.mark.parametrize("strip", ["", "1"])
async def test_lines_of_no_known_shape_pass_and_break_nothing(tmp_path: Path, value: Any, strip: str) -> None:
    odd = [*({name: value} for name in ("message", "response", "done", "thinking", "eval_count")), value]
    sent = b"".join(json.dumps(one).encode() + b"\n" for one in odd) + b"not json\n\n" + HI

    async with at_the_door(tmp_path, lines(sent, 50)) as stage:
        reply = await stage.client.post(CHAT, json=ASKED, headers={"X-Clawlama-Strip-Thinking": strip})
        kept = await stage.recorded()

    assert kept.finish_reason == "stop"
    assert str(kept.reply["content"]).endswith("Hi there")
    assert strip or reply.content == sent
