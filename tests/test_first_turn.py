"""The first turn after a start, through a gateway that is real HTTP."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import anyio
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from supervisor.api.warmup import WarmUp
from supervisor.first_turn import FirstTurn, crowded
from supervisor.plan.decide import decide
from supervisor.plan.plan import Plan
from supervisor.running import Running
from supervisor.start import Start
from tests.fakes.openai import serving
from tests.plan.machines import machine, model, settings

pytestmark = pytest.mark.anyio

FULL = replace(decide(machine(), settings(), model(max_context=8192)), lean=False)


@dataclass
class Gateway:
    """``tokens``: how long the prompt is that it sends, by plan; None: the turn fails."""

    tokens: Callable[[Plan], int | None]
    warm_up: WarmUp = field(default_factory=WarmUp)
    start: Start = field(default_factory=Start)
    plan: Plan = FULL
    told: list[str] = field(default_factory=list)
    restarts: int = 0

    async def answer(self, request: Request) -> Response:
        assert self.warm_up.word in (await request.json())["messages"][0]["content"]
        self.warm_up.prompt_tokens, self.warm_up.seconds = self.tokens(self.plan), 0.5
        if self.warm_up.prompt_tokens is None:
            return JSONResponse({"error": {"message": "context window exceeded"}}, 400)
        chunk = {"choices": [{"delta": {"content": "ready"}}]}
        return Response(f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n", media_type="text/event-stream")

    async def again(self, plan: Plan) -> None:
        self.plan, self.restarts = plan, self.restarts + 1


@asynccontextmanager
async def turn(gateway: Gateway) -> AsyncIterator[FirstTurn]:
    app = FastAPI()
    app.post("/v1/chat/completions")(gateway.answer)
    async with serving(app) as url:
        home = Running(
            pid=1, version="1", model="m", adapter="a", api_url="", api_token="", openclaw_url=url, openclaw_token="t"
        )
        yield FirstTurn(home, gateway.warm_up, gateway.start, gateway.told.append, gateway.again)


async def test_a_prompt_that_fits_changes_nothing() -> None:
    gateway = Gateway(lambda _plan: 4500)
    async with turn(gateway) as first:
        plan = await first.take(FULL, may_trim=True)

    assert (plan, gateway.restarts, gateway.start.problem) == (FULL, 0, "")
    assert gateway.told == ["OpenClaw's prompt, 4500 tokens, was read in 0.5 s"]


@pytest.mark.parametrize("full", [7000, None])
async def test_a_prompt_that_does_not_fit_gives_way_to_a_lean_one(full: int | None) -> None:
    gateway = Gateway(lambda plan: 20 if plan.lean else full)
    async with turn(gateway) as first:
        plan = await first.take(FULL, may_trim=True)

    assert (plan.lean, gateway.restarts, gateway.start.problem) == (True, 1, "")


async def test_where_the_user_wants_the_full_prompt_it_stays_and_health_says_so() -> None:
    gateway = Gateway(lambda _plan: 7000)
    async with turn(gateway) as first:
        plan = await first.take(FULL, may_trim=False)

    assert (plan.lean, gateway.restarts) == (False, 0)
    assert gateway.start.problem == crowded(7000, 8192)
    assert "leaves 1192 for history" in gateway.start.problem


async def test_a_turn_that_fails_degrades_and_does_not_stop_the_start() -> None:
    gateway = Gateway(lambda _plan: None)
    async with turn(gateway) as first:
        await first.take(FULL, may_trim=False)

    assert gateway.start.turn_failed.startswith("a first chat turn failed: ")
    assert gateway.start.problem == ""


async def test_after_a_turn_that_failed_others_are_tried_until_one_works() -> None:
    answers = iter([None, None, 4500])
    gateway = Gateway(lambda _plan: next(answers))
    with anyio.fail_after(10):
        async with turn(gateway) as first:
            await first.take(FULL, may_trim=False)
            await replace(first, retry=0.01).until_one_works(FULL)

    assert (gateway.start.turn_failed, gateway.start.problem) == ("", "")
