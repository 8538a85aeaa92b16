"""The first turn after a start, taken by ourselves: proof that a chat works, and nobody waits for the long prompt."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import anyio
import structlog

from supervisor.api.warmup import WarmUp
from supervisor.errors import GatewayError
from supervisor.gateway.client import ask
from supervisor.plan.plan import Plan
from supervisor.plan.prompt import TALK
from supervisor.running import Running
from supervisor.start import Start, Tell

WITHIN = 900.0  # seconds; a slow CPU reads ten tokens of prompt a second
RETRY = 30.0  # seconds until another turn is tried
SESSION = "clawlama-warm-up"

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(frozen=True)
class FirstTurn:
    """``again`` renders OpenClaw's files for another plan and restarts it."""

    home: Running
    warm_up: WarmUp
    start: Start
    tell: Tell
    again: Callable[[Plan], Awaitable[None]]
    retry: float = RETRY

    async def take(self, plan: Plan, *, may_trim: bool) -> Plan:
        """The plan that OpenClaw runs by in the end: a full prompt that leaves too little room gives way to a lean one.

        What goes wrong degrades the start and does not end it.
        """
        self.start.phase = "warming"
        problem = await self._ask(plan)
        if problem and may_trim and not plan.lean:
            self.tell(f"{problem}; OpenClaw gets a lean prompt instead")
            plan = replace(plan, lean=True)
            await self.again(plan)
            problem = await self._ask(plan)
        if problem:
            log.warning("first turn", problem=problem)
        if not self.start.turn_failed:
            self.start.problem = self.start.problem or problem
        return plan

    async def until_one_works(self, plan: Plan) -> None:
        """After a turn that failed, another every now and then; returns at once where the first one worked."""
        while self.start.turn_failed:
            await anyio.sleep(self.retry)
            await self._ask(plan)

    async def _ask(self, plan: Plan) -> str:
        """What is wrong, empty when nothing is."""
        question = f"Answer with the one word ready. ({self.warm_up.word})"
        self.warm_up.forget()
        self.start.turn_failed = await self._failure(question)
        if self.start.turn_failed:
            return self.start.turn_failed
        tokens = self.warm_up.prompt_tokens or 0
        self.tell(f"OpenClaw's prompt, {tokens} tokens, was read in {self.warm_up.seconds or 0:.1f} s")
        return crowded(tokens, plan.context)

    async def _failure(self, question: str) -> str:
        try:
            with anyio.fail_after(WITHIN):
                async for _ in ask(self.home.openclaw_url, self.home.openclaw_token, question, session=SESSION):
                    pass
        except (GatewayError, TimeoutError) as exc:
            return f"a first chat turn failed: {exc or f'no answer within {WITHIN:.0f} s'}"
        return "a first chat turn never reached the model" if self.warm_up.prompt_tokens is None else ""


def crowded(tokens: int, context: int) -> str:
    """Whether a prompt leaves too little of the context; the remedy for people who set it so."""
    left = context - tokens
    if left >= TALK:
        return ""
    return (
        f"OpenClaw's prompt takes {tokens} of {context} tokens and leaves {left} for history and reply; set "
        "CLAWLAMA_LEAN=auto, raise CLAWLAMA_CONTEXT_WINDOW, or choose a model with a longer context"
    )
