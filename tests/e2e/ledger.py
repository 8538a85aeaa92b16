"""What a test said and was promised to be kept, while it chats and gives feedback in the background."""

import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx

from supervisor.cli.trial import load_prompts
from supervisor.plan.models import bundled
from tests.e2e.product import Place

ADAPTER = "openclaw/assistant"
PROMPTS = load_prompts(bundled("tiny-chat")).train


@dataclass(frozen=True)
class Turn:
    """A question with a number of its own, and the reply as it was seen."""

    prompt: str
    reply: str


@dataclass
class Ledger:
    """Everything acknowledged. ``completions`` by id; ``turns`` went through OpenClaw, which tells no id."""

    completions: dict[str, Turn] = field(default_factory=dict)
    turns: list[Turn] = field(default_factory=list)
    feedback: dict[str, str] = field(default_factory=dict)  # text to lesson id
    refused: int = 0

    def __str__(self) -> str:
        kept = f"{len(self.completions)} completions, {len(self.turns)} turns, {len(self.feedback)} feedback"
        return f"{kept} acknowledged, {self.refused} refused"


@dataclass
class Talker:
    """Chats and gives feedback until cancelled; an answer that does not come is nothing we were promised."""

    place: Place
    ledger: Ledger
    chance: random.Random
    _count: int = 0

    async def run(self) -> None:
        async with anyio.create_task_group() as tg:
            tg.start_soon(self._again, self._streamed)
            tg.start_soon(self._again, self._whole)
            tg.start_soon(self._again, self._through_openclaw)

    async def teach(self) -> None:
        """Feedback until cancelled, as much as lessons can be made of: gathered, and waited for."""
        async with anyio.create_task_group() as tg:
            tg.start_soon(self._again, self._noted)
            tg.start_soon(self._again, self._waited_for)

    async def _again(self, say: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
        async with self.place.client() as client:
            while True:
                try:
                    await say(client)
                except (httpx.TransportError, Refused):
                    self.ledger.refused += 1
                    await anyio.sleep(1)
                await anyio.sleep(self.chance.uniform(0.1, 0.5))

    async def _streamed(self, client: httpx.AsyncClient) -> None:
        prompt = self._prompt()
        async with client.stream("POST", "/v1/chat/completions", json=request(prompt, stream=True)) as answer:
            if answer.status_code == httpx.codes.OK and (reply := await text_of(answer.aiter_lines())) is not None:
                self.ledger.completions[answer.headers["x-clawlama-completion"]] = Turn(prompt, reply)
                return
        raise Refused

    async def _whole(self, client: httpx.AsyncClient) -> None:
        prompt = self._prompt()
        answer = await client.post("/v1/chat/completions", json=request(prompt, stream=False))
        if answer.status_code != httpx.codes.OK:
            raise Refused
        reply = answer.json()["choices"][0]["message"]["content"]
        self.ledger.completions[answer.headers["x-clawlama-completion"]] = Turn(prompt, reply)

    async def _through_openclaw(self, client: httpx.AsyncClient) -> None:
        prompt = self._prompt()
        body = {**request(prompt, stream=True), "model": "openclaw/default", "user": f"turn-{self._count}"}
        url, token = f"{self.place.openclaw}/v1/chat/completions", self.place.secret("openclaw_token")
        async with client.stream("POST", url, json=body, headers={"Authorization": f"Bearer {token}"}) as answer:
            if answer.status_code == httpx.codes.OK and (reply := await text_of(answer.aiter_lines())) is not None:
                self.ledger.turns.append(Turn(prompt, reply))
                return
        raise Refused

    async def _noted(self, client: httpx.AsyncClient) -> None:
        if await waiting(client) < 3:
            await self._feedback(client, wait="false")

    async def _waited_for(self, client: httpx.AsyncClient) -> None:
        if await waiting(client) < 2:
            await self._feedback(client, wait="true")

    async def _feedback(self, client: httpx.AsyncClient, wait: str) -> None:
        if not self.ledger.completions:
            return
        about = self.chance.choice(list(self.ledger.completions)[-20:])
        text = f"no emojis, please ({self._number()})"
        body = {"lora_id": ADAPTER, "completion_id": about, "feedback": text, "training": {"updates": 1, "rounds": 1}}
        answer = await client.post("/v1/feedback", params={"wait": wait}, json=body, timeout=600)
        if "lesson_id" not in answer.json():
            raise Refused
        self.ledger.feedback[text] = answer.json()["lesson_id"]

    def _prompt(self) -> str:
        return f"{self.chance.choice(PROMPTS)} ({self._number()})"

    def _number(self) -> int:
        self._count += 1
        return self._count


class Refused(Exception):
    """An answer that promises nothing."""


def request(prompt: str, *, stream: bool) -> dict[str, Any]:
    return {
        "model": ADAPTER,
        "messages": [{"role": "user", "content": prompt}],
        "stream": stream,
        "max_tokens": 40,
    }


async def text_of(lines: AsyncIterator[str]) -> str | None:
    """The reply that a stream holds; None unless it came to its proper end."""
    parts: list[str] = []
    async for line in lines:
        if line == "data: [DONE]":
            return "".join(parts)
        if line.startswith("data: "):
            frame = json.loads(line.removeprefix("data: "))
            if "error" in frame:
                return None
            parts += [choice["delta"].get("content") or "" for choice in frame["choices"]]
    return None


async def waiting(client: httpx.AsyncClient) -> int:
    """Lessons that are queued or under way."""
    lessons = (await client.get("/v1/health")).json()["lessons"]
    return int(lessons["queued"]) + (lessons["running"] is not None)
