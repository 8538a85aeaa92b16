import itertools
import json
from pathlib import Path
from typing import Any

import anyio
import pytest

from supervisor.api.thinking import ThinkingFilter
from supervisor.journal.visible import visible_text
from tests.api.stage import CHAT, HELLO, over_http
from tests.fakes.backend import answers, chunk, says, streams

TEXTS = [
    ("<think>secret</think>\n\nHello", "Hello"),
    ("Hello <think>secret</think>world", "Hello world"),
    ("<think>never closed", ""),
    ("a <think>b</think> c <think>d", "a  c "),
    ("1 < 2 and <thin air>", "1 < 2 and <thin air>"),
    ("  kept as it is ", "  kept as it is "),
    ("<think></think><think>twice</think>\nHi", "Hi"),
    ("the end is <thi", "the end is <thi"),
]


@pytest.mark.parametrize(("text", "shown"), TEXTS)
def test_thinking_is_dropped_wherever_the_text_is_cut(text: str, shown: str) -> None:
    for first, second in itertools.combinations(range(len(text) + 1), 2):
        visible = ThinkingFilter()
        pieces = (text[:first], text[first:second], text[second:])

        assert "".join([*map(visible.feed, pieces), visible.flush()]) == shown
    assert visible_text(text) == shown.strip()


def test_text_without_a_tag_is_never_held_back() -> None:
    visible = ThinkingFilter()

    assert [visible.feed(piece) for piece in ("Hello", " <b", ">", "x <")] == ["Hello", " <b", ">", "x "]


@pytest.mark.anyio
@pytest.mark.parametrize("by", ["header", "body"])
@pytest.mark.parametrize("cut", [5, 10**6])
async def test_a_caller_may_ask_for_a_stream_without_thinking(tmp_path: Path, by: str, cut: int) -> None:
    sent = (
        chunk({"role": "assistant", "content": None})
        + chunk({"reasoning_content": "hm"})
        + says("<th", "ink>sec", "ret</thi", "nk>\n", "\nHello", " <thing")
    )
    body: dict[str, Any] = HELLO | {"stream": True} | ({"clawlama": {"strip_thinking": True}} if by == "body" else {})
    headers = {"X-Clawlama-Strip-Thinking": "1"} if by == "header" else {}

    with anyio.fail_after(20):
        async with over_http(tmp_path, streams(sent, cut)) as stage:
            reply = await stage.client.post(CHAT, json=body, headers=headers)
            kept = await stage.recorded()

    events = [json.loads(line[6:]) for line in reply.text.splitlines() if line.startswith("data: {")]
    deltas = [choice["delta"] for event in events for choice in event["choices"]]
    assert "".join(delta.get("content") or "" for delta in deltas) == "Hello <thing"
    assert not [delta for delta in deltas if "reasoning_content" in delta]
    assert reply.text.endswith("data: [DONE]\n\n")
    assert events[-1]["usage"]["completion_tokens"] == 6
    assert kept.reply["content"] == "<think>secret</think>\n\nHello <thing"
    assert kept.reply["reasoning_content"] == "hm"
    assert "clawlama" not in stage.asked[0]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("route", "choice", "shown"),
    [
        (
            CHAT,
            {"message": {"content": "<think>x</think>\nHi", "reasoning_content": "y"}},
            {"message": {"content": "Hi"}},
        ),
        (CHAT, {"message": {"content": None, "tool_calls": []}}, {"message": {"content": None, "tool_calls": []}}),
        ("/v1/completions", {"text": "<think>x</think>Hi"}, {"text": "Hi"}),
    ],
)
async def test_a_whole_reply_comes_without_thinking_when_asked(
    tmp_path: Path, route: str, choice: dict[str, Any], shown: dict[str, Any]
) -> None:
    async with over_http(tmp_path, answers({"choices": [{"index": 0, **choice}]})) as stage:
        body = HELLO | {"prompt": "x", "clawlama": {"strip_thinking": True}}
        reply = await stage.client.post(route, json=body)

    assert reply.json() == {"choices": [{"index": 0, **shown}]}
