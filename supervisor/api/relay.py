"""One request through to the engine and its answer back: streamed as it arrives, recorded before its end is told."""

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

import anyio
import httpx
import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from supervisor.api.capture import Asked, Capture
from supervisor.api.failures import failure_body
from supervisor.api.presence import while_present
from supervisor.api.sse import EventSplitter, data_of, event_of, send_part
from supervisor.api.thinking import ThinkingHidden, parsed_data
from supervisor.engines.engine import Engine, Reply
from supervisor.errors import EngineError, JournalError, RequestError
from supervisor.journal.journal import Journal

RECORD_WITHIN = 10.0  # seconds
BARE = "base"  # X-Clawlama-Version of an answer without adapter
DONE = b"[DONE]"
NOT_PASSED_ON = {  # of the connection to the backend, of the server that we are ourselves, or for browsers elsewhere
    *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer"),
    *("transfer-encoding", "upgrade", "content-length", "content-encoding", "date", "server", "x-accel-buffering"),
}

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Relay(Response):
    """The answer to one completion request. What the client saw to its end is in the journal."""

    def __init__(
        self, engine: Engine, journal: Journal, asked: Asked, body: Mapping[str, Any], *, strip_thinking: bool
    ) -> None:
        super().__init__()
        self._engine = engine
        self._journal = journal
        self._asked = asked
        self._body = body
        self._hidden = ThinkingHidden() if strip_thinking else None
        self._capture = Capture(asked)
        self._reply: Reply | None = None  # once it streams, and until it is recorded

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises what ``Engine.forward`` raises while nothing has been sent."""
        await while_present(receive, partial(self._relay, send))

    async def _relay(self, send: Send) -> None:
        try:
            async with self._engine.forward(self._asked.route, self._body) as reply:
                if _is_stream(reply):
                    await self._stream(reply, send)
                else:
                    await self._whole(reply, send)
        finally:  # the backend has been let go by now: it no longer generates
            if self._reply is not None:
                await self._record(self._reply, "cancelled")

    async def _stream(self, reply: Reply, send: Send) -> None:
        self._reply = reply
        await self._start(reply, send)
        events = EventSplitter()
        try:
            async for data in reply.response.aiter_bytes():
                await self._pass_on(events.feed(data), reply, send)
            if _is_whole(events.rest()) or self._reply is None:
                await self._pass_on([events.rest()], reply, send)
            problem = "" if self._capture.finish_reason or self._reply is None else "it ended in the middle of a reply"
        except (httpx.TransportError, httpx.DecodingError, EngineError) as exc:
            problem = str(exc) or type(exc).__name__
        if self._reply is not None:
            await self._record(reply, "error" if problem else self._capture.finish_reason)
            if problem:
                log.warning("engine broke off", completion=self._asked.id, problem=problem)
                await send_part(send, event_of(failure_body(502, broken_off(problem))))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _pass_on(self, events: list[bytes], reply: Reply, send: Send) -> None:
        """Send whole events in one go; record the reply first where they hold its end."""
        passed = b""
        for event in events:
            if data_of(event).strip() == DONE:
                await send_part(send, passed)
                passed = b""
                await self._record(reply, self._capture.finish_reason)
            elif parsed := parsed_data(event):
                self._capture.take(parsed)
                passed += self._hidden.event(event, parsed) if self._hidden else event
                continue
            passed += event
        await send_part(send, passed)

    async def _whole(self, reply: Reply, send: Send) -> None:
        """An answer in one piece is of no use before its end: it is read to there, so that a break becomes a 502."""
        try:
            content = await reply.response.aread()
        except (httpx.TransportError, httpx.DecodingError) as exc:
            raise RequestError(502, broken_off(str(exc) or type(exc).__name__)) from exc
        parsed = _object(content) if reply.response.is_success else None
        if parsed is not None:
            self._capture.take(parsed)
            self._reply = reply
            await self._record(reply, self._capture.finish_reason)
            content = self._hidden.document(parsed) if self._hidden else content
        await self._start(reply, send, length=len(content))
        await send({"type": "http.response.body", "body": content, "more_body": False})

    async def _record(self, reply: Reply, finish_reason: str | None) -> None:
        """Once per reply, whoever leaves meanwhile.

        A journal that fails is no reason to keep the reply from the person who waits for it.
        """
        if self._reply is None:
            return
        self._reply = None
        completion = self._capture.completion(reply, self._engine.served, finish_reason)
        with anyio.move_on_after(RECORD_WITHIN, shield=True) as patience:
            try:
                await self._journal.add_completion(completion)
            except JournalError as exc:
                log.error("reply not recorded", completion=completion.id, problem=str(exc))  # noqa: TRY400
        if patience.cancelled_caught:
            log.error("reply not recorded", completion=completion.id, problem="the journal is stuck")

    async def _start(self, reply: Reply, send: Send, length: int | None = None) -> None:
        headers = [(name, value) for name, value in reply.response.headers.raw if _passes(name)]
        headers.append((b"x-clawlama-version", (reply.version or BARE).encode()))
        if reply.response.is_success:
            headers.append((b"x-clawlama-completion", self._asked.id.encode()))
        headers.append((b"x-accel-buffering", b"no") if length is None else (b"content-length", b"%d" % length))
        await send({"type": "http.response.start", "status": reply.response.status_code, "headers": headers})


def broken_off(problem: str) -> str:
    return f"the engine broke off: {problem}; it is being restarted, ask again"


def _is_stream(reply: Reply) -> bool:
    kind = reply.response.headers.get("content-type", "")
    return reply.response.is_success and kind.startswith("text/event-stream")


def _is_whole(rest: bytes) -> bool:
    """Whether bytes that no blank line ends are an event all the same, and not the torn beginning of one."""
    return data_of(rest).strip() == DONE or parsed_data(rest) is not None


def _object(content: bytes) -> dict[str, Any] | None:
    try:
        parsed = json.loads(content)
    except ValueError as exc:
        log.warning("engine answered something that is not JSON", problem=str(exc))
        return None
    return parsed if isinstance(parsed, dict) else None


def _passes(header: bytes) -> bool:
    name = header.decode("ascii").lower()
    return name not in NOT_PASSED_ON and not name.startswith("access-control-")
