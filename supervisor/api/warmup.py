"""The first turn of each start, taken by ourselves through OpenClaw, so that nobody waits for what it costs.

OpenClaw sends the same long beginning, its system prompt and tools, with every turn. A CPU reads that for seconds to
minutes, once; then the engine has it cached. The turn is known by a word that nobody else says. It is answered at the
door, is no completion in the journal, and tells how long the prompt is and that a whole chat turn works.
"""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import anyio
from starlette.responses import JSONResponse, Response

from supervisor.api.sse import event_of
from supervisor.engines.engine import Engine, Route
from supervisor.errors import RequestError
from supervisor.gateway.bookkeeping import spoken

ANSWER = "ready"


@dataclass
class WarmUp:
    """What was learned from the turn; None before it was taken."""

    word: str = field(default_factory=lambda: f"warm-up-{secrets.token_hex(8)}")
    prompt_tokens: int | None = None
    seconds: float | None = None  # until the first token

    def forget(self) -> None:
        """Before another try."""
        self.prompt_tokens = self.seconds = None

    def is_meant(self, messages: list[dict[str, Any]]) -> bool:
        """Behind what was asked, OpenClaw may put a user message of its own."""
        return any(
            message.get("role") == "user" and self.word in spoken(message.get("content")) for message in messages
        )


async def take(warm_up: WarmUp, engine: Engine, route: Route, body: Mapping[str, Any]) -> Response:
    """Have the engine read the prompt and answer for it. RequestError when it cannot."""
    started = anyio.current_time()
    short = shortened(route, body)
    async with engine.forward(route, short) as reply:
        content = await reply.response.aread()
        if not reply.response.is_success:
            problem = content.decode(errors="replace")[:300]
            raise RequestError(502, f"the model cannot read OpenClaw's prompt: {problem}")
    engine.remember(route, short)
    warm_up.seconds = anyio.current_time() - started
    warm_up.prompt_tokens = prompt_tokens(json.loads(content))
    return answered(route, body)


def shortened(route: Route, body: Mapping[str, Any]) -> dict[str, Any]:
    """The same beginning, one word from the user, one token to write."""
    beginning = [message for message in body["messages"] if message.get("role") in {"system", "developer"}]
    asked = {**body, "messages": [*beginning, {"role": "user", "content": "Hello"}], "stream": False}
    asked.pop("stream_options", None)
    if route == "/api/chat":
        return {**asked, "options": {**body.get("options", {}), "num_predict": 1}}
    asked.pop("max_completion_tokens", None)
    return {**asked, "max_tokens": 1}


def prompt_tokens(answer: Mapping[str, Any]) -> int | None:
    count = answer.get("prompt_eval_count", (answer.get("usage") or {}).get("prompt_tokens"))
    return int(count) if count is not None else None


def answered(route: Route, body: Mapping[str, Any]) -> Response:
    """A whole reply in the form that was asked for."""
    message = {"role": "assistant", "content": ANSWER}
    if route == "/api/chat":
        stamp = datetime.now(UTC).isoformat()
        whole = {"model": body.get("model"), "created_at": stamp, "message": message, "done": True}
        line = json.dumps({**whole, "done_reason": "stop"})
        return Response(
            f"{line}\n", media_type="application/x-ndjson" if body.get("stream", True) else "application/json"
        )
    frame = {"id": "chatcmpl-warm-up", "created": 0, "model": body.get("model")}
    choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
    if not body.get("stream"):
        return JSONResponse({**frame, "object": "chat.completion", "choices": [{**choice, "message": message}]})
    chunk = {**frame, "object": "chat.completion.chunk", "choices": [{**choice, "delta": message}]}
    return Response(event_of(chunk) + b"data: [DONE]\n\n", media_type="text/event-stream")
