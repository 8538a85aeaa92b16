"""A model server with a script: real TCP, real HTTP/1.1, and a say over every byte and every break."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
from anyio.abc import SocketStream


@dataclass
class Wire:
    """One request and the means to answer it."""

    path: str
    body: dict[str, Any]
    stream: SocketStream

    async def head(self, kind: str = "text/event-stream", status: int = 200, **headers: str) -> None:
        lines = [f"HTTP/1.1 {status} Scripted", f"Content-Type: {kind}", "Transfer-Encoding: chunked"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        await self.stream.send("\r\n".join([*lines, "", ""]).encode())

    async def send(self, data: bytes) -> None:
        if data:
            await self.stream.send(b"%x\r\n%s\r\n" % (len(data), data))

    async def end(self) -> None:
        await self.stream.send(b"0\r\n\r\n")

    async def document(self, content: Mapping[str, Any], status: int = 200, **headers: str) -> None:
        await self.head("application/json", status, **headers)
        await self.send(json.dumps(content).encode())
        await self.end()

    async def left(self) -> None:
        """Return when the other side has closed the connection."""
        try:
            while True:
                await self.stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return


Script = Callable[[Wire], Awaitable[None]]


@dataclass
class Backend:
    """``script`` answers each request; the connection is closed when it returns or raises BrokenPipeError."""

    script: Script
    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)

    async def serve(self, stream: SocketStream) -> None:
        async with stream:
            path, body = await read_request(stream)
            self.asked.append(body)
            try:
                await self.script(Wire(path, body, stream))
            except (anyio.BrokenResourceError, BrokenPipeError):
                return


async def read_request(stream: SocketStream) -> tuple[str, dict[str, Any]]:
    data = b""
    while b"\r\n\r\n" not in data:
        data += await stream.receive()
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    while len(body) < int(headers.get("content-length", 0)):
        body += await stream.receive()
    return lines[0].split(" ")[1], json.loads(body or b"{}")


@asynccontextmanager
async def backend(script: Script) -> AsyncIterator[Backend]:
    """A running backend; what it still does is cut off at the end of the block."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    made = Backend(script, f"http://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}")
    async with listener, anyio.create_task_group() as tg:
        tg.start_soon(listener.serve, made.serve)
        yield made
        tg.cancel_scope.cancel()


def chunk(delta: Mapping[str, Any] | None, finish: str | None = None, **other: Any) -> bytes:
    """One event of a streamed chat reply; without a delta it has no choices."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    event = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "fake", "choices": choices, **other}
    return f"data: {json.dumps(event, ensure_ascii=False)}\n\n".encode()


def says(*pieces: str) -> bytes:
    """A whole streamed chat reply."""
    usage = {"prompt_tokens": 3, "completion_tokens": len(pieces), "total_tokens": 3 + len(pieces)}
    return b"".join(
        [
            chunk({"role": "assistant", "content": None}),
            *[chunk({"content": piece}) for piece in pieces],
            chunk({}, "stop", timings={"predicted_per_second": 50.0}),
            chunk(None, usage=usage),
            b"data: [DONE]\n\n",
        ]
    )


def streams(data: bytes, cut: int = 10**9) -> Script:
    """Stream ``data`` in pieces of ``cut`` bytes."""

    async def script(wire: Wire) -> None:
        await wire.head()
        for start in range(0, len(data), cut):
            await wire.send(data[start : start + cut])
        await wire.end()

    return script


def answers(content: Mapping[str, Any], status: int = 200, **headers: str) -> Script:
    """One JSON document."""

    async def script(wire: Wire) -> None:
        await wire.document(content, status, **headers)

    return script
