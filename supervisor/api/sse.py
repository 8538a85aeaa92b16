"""Server-sent events: cut a backend's bytes into events, send our own."""

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import anyio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from supervisor.api.presence import while_present
from supervisor.errors import EngineError

BLANK_LINE = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
MAX_EVENT = 16 * 1024 * 1024  # bytes
KEEP_ALIVE = 15.0  # seconds of silence after which a comment shows that we are still here
HEADERS = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}

Emit = Callable[[str, Mapping[str, Any]], Awaitable[None]]


class EventSplitter:
    """Bytes in, cut anywhere; whole events out, each with the blank line that ends it, no byte changed."""

    def __init__(self) -> None:
        self._open = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Events that ``data`` completes. EngineError for one that does not end."""
        seen = max(0, len(self._open) - 3)
        self._open += data
        events, start = [], 0
        while end := BLANK_LINE.search(self._open, max(start, seen)):
            events.append(self._open[start : end.end()])
            start = end.end()
        self._open = self._open[start:]
        if len(self._open) > MAX_EVENT:
            raise EngineError(f"the engine sent an event of more than {MAX_EVENT // 2**20} MiB")
        return events

    def rest(self) -> bytes:
        """What came after the last blank line."""
        return self._open


def data_of(event: bytes) -> bytes:
    """The event's data lines, joined."""
    lines = (line for line in event.splitlines() if line.startswith(b"data:"))
    return b"\n".join(line[5:].removeprefix(b" ") for line in lines)


def event_of(data: Mapping[str, Any], name: str | None = None) -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


class EventStream(Response):
    """Sends what ``source`` emits (name, data) as events until it returns or the client leaves."""

    def __init__(self, source: Callable[[Emit], Awaitable[None]]) -> None:
        super().__init__(headers=HEADERS)
        self._source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def emit(name: str, data: Mapping[str, Any]) -> None:
            await send_part(send, event_of(data, name))

        async def run() -> None:
            async with anyio.create_task_group() as tg:
                tg.start_soon(_keep_alive, send)
                await self._source(emit)
                tg.cancel_scope.cancel()

        headers = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await while_present(receive, run)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def send_part(send: Send, part: bytes) -> None:
    if part:
        await send({"type": "http.response.body", "body": part, "more_body": True})


async def _keep_alive(send: Send) -> None:
    while True:
        await anyio.sleep(KEEP_ALIVE)
        await send_part(send, b": still here\n\n")
