from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from supervisor.api.turns import Turns, one_token
from tests.api.stage import CHAT, HELLO, Stage, over_http
from tests.fakes.backend import Wire, answers, chunk

pytestmark = pytest.mark.anyio

STREAM = {**HELLO, "stream": True}
REPLY: dict[str, Any] = {"choices": [{"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}]}


@dataclass
class Moody:
    """A model server that breaks off, refuses or answers, as ``mood`` says."""

    mood: str = "breaks off"
    tiny: list[int] = field(default_factory=list)  # the length asked for by each question of ours

    async def script(self, wire: Wire) -> None:
        if "max_tokens" in wire.body:
            self.tiny.append(wire.body["max_tokens"])
        if self.mood == "breaks off":
            await wire.head()
            await wire.send(chunk({"content": "Once"}))
        elif self.mood == "refuses":
            await answers({"error": {"message": "out of memory"}}, 500)(wire)
        else:
            await answers(REPLY)(wire)


@asynccontextmanager
async def watched(folder: Path, moody: Moody) -> AsyncIterator[tuple[Stage, Turns]]:
    turns = Turns()
    with anyio.fail_after(20):
        async with over_http(folder, moody.script, turns=turns) as stage, anyio.create_task_group() as tg:
            tg.start_soon(partial(turns.watch, partial(one_token, stage.engine), again=0.01))
            yield stage, turns
            tg.cancel_scope.cancel()


async def until(reached: Callable[[], bool]) -> None:
    while not reached():  # noqa: ASYNC110 - nothing announces it
        await anyio.sleep(0.01)


@pytest.mark.parametrize(("mood", "body"), [("breaks off", STREAM), ("breaks off", HELLO), ("refuses", HELLO)])
async def test_replies_that_fail_are_trouble_until_they_come_again(
    tmp_path: Path, mood: str, body: dict[str, Any]
) -> None:
    moody = Moody(mood)
    async with watched(tmp_path, moody) as (stage, turns):
        await stage.client.post(CHAT, json=body)
        await until(lambda: bool(turns.trouble))

        moody.mood = "answers"
        await until(lambda: not turns.trouble)

    assert set(moody.tiny) == {1}


async def test_one_reply_that_failed_is_no_trouble_while_the_engine_answers(tmp_path: Path) -> None:
    moody = Moody("breaks off")
    async with watched(tmp_path, moody) as (stage, turns):
        async with stage.client.stream("POST", CHAT, json=STREAM) as reply:
            moody.mood = "answers"
            await reply.aread()
        await until(lambda: bool(moody.tiny))

        assert turns.trouble == ""


async def test_an_engine_that_cannot_be_reached_is_trouble(tmp_path: Path) -> None:
    moody = Moody()
    async with watched(tmp_path, moody) as (stage, turns):
        stage.engine.url = "http://127.0.0.1:1"
        assert (await stage.client.post(CHAT, json=HELLO)).status_code == 503
        await until(lambda: bool(turns.trouble))

        assert "does not answer" in turns.trouble


async def test_a_request_that_is_wrong_asks_nothing(tmp_path: Path) -> None:
    moody = Moody("answers")
    async with watched(tmp_path, moody) as (stage, turns):
        assert (await stage.client.post(CHAT, json={**HELLO, "model": "none"})).status_code == 404
        assert (await stage.client.post(CHAT, json=HELLO)).status_code == 200

        assert (turns.trouble, moody.tiny) == ("", [])
