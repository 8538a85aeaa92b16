"""What Ollama's clients call: replies, recorded like any other, and the routes beside them that are let through."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import httpx
import structlog
from fastapi import APIRouter, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from supervisor.api.body import json_object
from supervisor.api.context import ApiContext
from supervisor.api.ndjson import line_of
from supervisor.api.presence import while_present
from supervisor.api.proxy import as_the_model_reads, chat_messages, prompt_messages, relay
from supervisor.api.relay import broken_off, passes
from supervisor.api.sse import send_part
from supervisor.api.warmup import take
from supervisor.engines.engine import Engine

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]

log: structlog.stdlib.BoundLogger = structlog.get_logger()


def native_routes(context: ApiContext) -> APIRouter:
    router = APIRouter(tags=["ollama"])
    engine = context.engine

    @router.post("/api/chat")
    async def chat(request: Request) -> Response:
        """A chat reply, streamed unless the body says ``"stream": false``."""
        engine.admit("POST", "/api/chat")
        body = await json_object(request)
        if not body.get("messages"):
            return Passed(engine, "POST", "/api/chat", body)  # loads the model, or unloads it
        body = as_the_model_reads(body, request)
        messages = chat_messages(body)
        if context.warm_up.is_meant(messages):
            return await take(context.warm_up, engine, "/api/chat", body)
        return relay(context, request, "/api/chat", body, messages)

    @router.post("/api/generate")
    async def generate(request: Request) -> Response:
        """A continuation of a prompt, streamed unless the body says ``"stream": false``."""
        engine.admit("POST", "/api/generate")
        body = await json_object(request)
        if not body.get("prompt"):
            return Passed(engine, "POST", "/api/generate", body)
        system = body.get("system")
        before = [{"role": "system", "content": system}] if isinstance(system, str) and system else []
        return relay(context, request, "/api/generate", body, [*before, *prompt_messages(body)])

    @router.api_route("/api/{path:path}", methods=METHODS, include_in_schema=False)
    @router.api_route("/v1/embeddings", methods=["POST"], include_in_schema=False)
    async def other(request: Request) -> Response:
        """What only looks or computes; the rest is closed, or not there."""
        path = request.url.path
        engine.admit(request.method, path)
        return Passed(engine, request.method, path, await json_object(request) if request.method == "POST" else None)

    return router


class Passed(Response):
    """The answer of a route that leaves nothing to record, as it comes."""

    def __init__(self, engine: Engine, method: str, path: str, body: Mapping[str, Any] | None) -> None:
        super().__init__()
        self._engine = engine
        self._asked = (method, path, body)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises what ``Engine.native`` raises while nothing has been sent."""
        await while_present(receive, partial(self._pass, send))

    async def _pass(self, send: Send) -> None:
        async with self._engine.native(*self._asked) as response:
            headers = [(name, value) for name, value in response.headers.raw if passes(name)]
            await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
            try:
                async for data in response.aiter_bytes():
                    await send_part(send, data)
            except (httpx.TransportError, httpx.DecodingError) as exc:
                problem = str(exc) or type(exc).__name__
                log.warning("engine broke off", path=self._asked[1], problem=problem)
                await send_part(send, line_of({"error": broken_off(problem)}))
            await send({"type": "http.response.body", "body": b"", "more_body": False})
