"""How an answer goes out: one chunk per line, or all of them as one; errors with a status while nothing was sent.

The work stops when the caller hangs up.
"""

import json
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from typing import Any, Protocol

import anyio
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from tests.fakes.ollama.failures import Refused

Chunk = dict[str, Any]
Chunks = AsyncGenerator[Chunk, None]
JSON_TYPE = "application/json; charset=utf-8"


def whole(body: Any, status: int = 200) -> JSONResponse:
    return JSONResponse(body, status, media_type=JSON_TYPE)


def error_body(_status: int, message: str) -> Chunk:
    return {"error": message}


class Framing(Protocol):
    """Turns chunks into bytes."""

    content_type: str

    def encode(self, chunk: Chunk) -> Iterable[bytes]: ...

    def error(self, message: str) -> bytes: ...


class Lines:
    """NDJSON."""

    content_type = "application/x-ndjson"

    def encode(self, chunk: Chunk) -> Iterable[bytes]:
        return [json.dumps(chunk, ensure_ascii=False).encode() + b"\n"]

    def error(self, message: str) -> bytes:
        return json.dumps({"error": message}).encode() + b"\n"


class Answer:
    """An ASGI response that streams ``chunks``, or with ``join`` sends what that makes of all of them."""

    def __init__(
        self,
        chunks: Chunks,
        *,
        framing: Framing | None = None,
        join: Callable[[list[Chunk]], Any] | None = None,
        complain: Callable[[int, str], Any] = error_body,
    ) -> None:
        self._chunks = chunks
        self._framing = framing or Lines()
        self._join = join
        self._complain = complain
        self._started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with anyio.create_task_group() as tasks:

            async def hang_up() -> None:
                while (await receive())["type"] != "http.disconnect":
                    pass
                tasks.cancel_scope.cancel()

            tasks.start_soon(hang_up)
            try:
                async with aclosing(self._chunks):
                    await (self._send_joined if self._join else self._send_stream)(scope, receive, send)
            except Refused as refused:
                await self._send_error(refused, scope, receive, send)
            tasks.cancel_scope.cancel()

    async def _send_joined(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self._join is not None
        body = self._join([chunk async for chunk in self._chunks])
        await whole(body)(scope, receive, send)

    async def _send_stream(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        async for chunk in self._chunks:
            if not self._started:
                self._started = True
                headers = [(b"content-type", self._framing.content_type.encode())]
                await send({"type": "http.response.start", "status": 200, "headers": headers})
            for part in self._framing.encode(chunk):
                await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_error(self, refused: Refused, scope: Scope, receive: Receive, send: Send) -> None:
        if self._started:
            await send({"type": "http.response.body", "body": self._framing.error(refused.message), "more_body": False})
        else:
            await whole(self._complain(refused.status, refused.message), refused.status)(scope, receive, send)
