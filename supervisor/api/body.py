"""Reads request bodies: bounded in size, JSON objects only."""

import json
from typing import Any

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from supervisor.errors import RequestError

MAX_BODY = 64 * 1024 * 1024  # bytes; images travel in base64 inside the conversation


class BodyLimit:
    """Refuses a body over MAX_BODY, announced or not, before it is held in memory."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "0")
        received = int(announced) if announced.isdigit() and int(announced) > MAX_BODY else 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MAX_BODY:
                raise HTTPException(
                    413, f"the body has more than {MAX_BODY // 2**20} MiB; send less history or smaller images"
                )
            return message

        await self._app(scope, counted, send)


async def json_object(request: Request) -> dict[str, Any]:
    """The body as a JSON object. RequestError (400) when it is anything else."""
    raw = await request.body()
    try:
        body = json.loads(raw, parse_constant=_no_constant)
    except (ValueError, RecursionError) as exc:
        raise RequestError(400, f"the body is not JSON: {exc}") from exc
    if not isinstance(body, dict):
        raise RequestError(400, f"the body must be a JSON object, not {type(body).__name__}")
    return body


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")
