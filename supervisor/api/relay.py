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
from supervisor.api.framing import framing_of
from supervisor.api.metrics import Metrics
from supervisor.api.presence import while_present
from supervisor.api.sse import send_part
from supervisor.api.turns import Turns
from supervisor.engines.engine import Engine, Reply
from supervisor.errors import EngineError, JournalError, RequestError, UnknownModel
from supervisor.journal.journal import Journal

RECORD_WITHIN = 10.0  # seconds
BARE = "base"  # X-Clawlama-Version of an answer without adapter
NOT_PASSED_ON = {  # of the connection to the backend, of the server that we are ourselves, or for browsers elsewhere
    *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer"),
    *("transfer-encoding", "upgrade", "content-length", "content-encoding", "date", "server", "x-accel-buffering"),
}

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Relay(Response):
    """The answer to one completion request. What the client saw to its end is in the journal."""

    def __init__(
        self,
        engine: Engine,
        journal: Journal,
        turns: Turns,
        metrics: Metrics,
        asked: Asked,
        body: Mapping[str, Any],
        *,
        strip_thinking: bool,
    ) -> None:
        super().__init__()
        self._engine = engine
        self._journal = journal
        self._turns = turns
        self._metrics = metrics
        self._asked = asked
        self._body = body
        self._framing = framing_of(asked.route)
        self._hidden = self._framing.hiding() if strip_thinking else None
        self._capture = Capture(asked)
        self._reply: Reply | None = None  # once it streams, and until it is recorded

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises what ``Engine.forward`` raises while nothing has been sent."""
        try:
            await while_present(receive, partial(self._relay, send))
        except UnknownModel:
            raise
        except EngineError:
            self._failed()
            raise

    async def _relay(self, send: Send) -> None:
        try:
            async with self._engine.forward(self._asked.route, self._body) as reply:
                if self._is_stream(reply):
                    await self._stream(reply, send)
                else:
                    await self._whole(reply, send)
        finally:  # the backend has been let go by now: it no longer generates
            if self._reply is not None:
                await self._record(self._reply, "cancelled")

    async def _stream(self, reply: Reply, send: Send) -> None:
        self._reply = reply
        await self._start(reply, send)
        events = self._framing.splitter()
        try:
            async for data in reply.response.aiter_bytes():
                await self._pass_on(events.feed(data), reply, send)
            if self._is_whole(events.rest()) or self._reply is None:
                await self._pass_on([events.rest()], reply, send)
            problem = "" if self._capture.finish_reason or self._reply is None else "it ended in the middle of a reply"
        except (httpx.TransportError, httpx.DecodingError, EngineError) as exc:
            problem = str(exc) or type(exc).__name__
        if self._reply is not None:
            await self._record(reply, "error" if problem else self._capture.finish_reason)
            if problem:
                log.warning("engine broke off", completion=self._asked.id, problem=problem)
                await send_part(send, self._framing.failure(502, broken_off(problem)))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _pass_on(self, events: list[bytes], reply: Reply, send: Send) -> None:
        """Send whole events in one go; record the reply first where they hold its end."""
        passed = b""
        for event in events:
            parsed = self._framing.parsed(event)
            if parsed is not None:
                self._capture.take(self._framing.part(parsed))
            if self._framing.ends(event, parsed):
                await send_part(send, passed)
                passed = b""
                await self._record(reply, self._capture.finish_reason)
            passed += self._hidden.event(event, parsed) if self._hidden else event
        await send_part(send, passed)

    async def _whole(self, reply: Reply, send: Send) -> None:
        """An answer in one piece is of no use before its end: it is read to there, so that a break becomes a 502."""
        try:
            content = await reply.response.aread()
        except (httpx.TransportError, httpx.DecodingError) as exc:
            self._failed()
            raise RequestError(502, broken_off(str(exc) or type(exc).__name__)) from exc
        if reply.response.is_server_error:
            self._failed()
        parsed = _object(content) if reply.response.is_success else None
        if parsed is not None:
            self._capture.take(self._framing.part(parsed))
            self._reply = reply
            await self._record(reply, self._capture.finish_reason)
            content = self._hidden.document(parsed) if self._hidden else content
        await self._start(reply, send, length=len(content))
        await send({"type": "http.response.body", "body": content, "more_body": False})

    def _failed(self) -> None:
        """No completion came of it, and it was the engine's fault."""
        self._turns.failed()
        self._metrics.failed(str(self._body["model"]))

    async def _record(self, reply: Reply, finish_reason: str | None) -> None:
        """Once per reply, whoever leaves meanwhile.

        A journal that fails is no reason to keep the reply from the person who waits for it.
        """
        if self._reply is None:
            return
        self._reply = None
        if finish_reason == "error":
            self._turns.failed()
        completion = self._capture.completion(reply, self._engine.served, finish_reason)
        self._metrics.completed(completion)
        with anyio.move_on_after(RECORD_WITHIN, shield=True) as patience:
            try:
                await self._journal.add_completion(completion)
            except JournalError as exc:
                log.error("reply not recorded", completion=completion.id, problem=str(exc))  # noqa: TRY400
        if patience.cancelled_caught:
            log.error("reply not recorded", completion=completion.id, problem="the journal is stuck")

    async def _start(self, reply: Reply, send: Send, length: int | None = None) -> None:
        headers = [(name, value) for name, value in reply.response.headers.raw if passes(name)]
        headers.append((b"x-clawlama-version", (reply.version or BARE).encode()))
        if reply.response.is_success:
            headers.append((b"x-clawlama-completion", self._asked.id.encode()))
        headers.append((b"x-accel-buffering", b"no") if length is None else (b"content-length", b"%d" % length))
        await send({"type": "http.response.start", "status": reply.response.status_code, "headers": headers})

    def _is_stream(self, reply: Reply) -> bool:
        kind = reply.response.headers.get("content-type", "")
        return reply.response.is_success and kind.startswith(self._framing.content_type)

    def _is_whole(self, rest: bytes) -> bool:
        """Whether bytes that nothing ends are an event all the same, and not the torn beginning of one."""
        parsed = self._framing.parsed(rest)
        return parsed is not None or self._framing.ends(rest, parsed)


def broken_off(problem: str) -> str:
    return f"the engine broke off: {problem}; it is being restarted, ask again"


def _object(content: bytes) -> dict[str, Any] | None:
    try:
        parsed = json.loads(content)
    except ValueError as exc:
        log.warning("engine answered something that is not JSON", problem=str(exc))
        return None
    return parsed if isinstance(parsed, dict) else None


def passes(header: bytes) -> bool:
    """Whether a header of the backend's answer is for the client too."""
    name = header.decode("ascii").lower()
    return name not in NOT_PASSED_ON and not name.startswith("access-control-")
