"""OpenClaw's port as people see it: open from the first second of a start, and a straight way through once it listens.

OpenClaw itself listens on loopback. It asks a browser that comes from elsewhere for a pairing that must be approved on
a command line, even when it has the token; in a container every browser comes from elsewhere. Through this door all
come from this machine, and the token alone decides, as ``isLocalDirectRequest`` in its net module has it.
"""

import errno
import json
import re
from collections.abc import Callable
from functools import partial

import anyio
import structlog
from anyio.abc import ByteReceiveStream, ByteSendStream, SocketStream, TaskStatus

from supervisor.errors import MachineError
from supervisor.render.templates import fill

HEAD_LIMIT = 65536  # bytes of a request's head
HEAD_WITHIN = 10.0  # seconds to send it

log: structlog.stdlib.BoundLogger = structlog.get_logger()


async def keep_door(
    host: str,
    port: int,
    inner: int,
    moment: Callable[[], str],
    *,
    task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Join every connection to ``host:port`` with 127.0.0.1:``inner`` until cancelled.

    While nothing listens there, a page says ``moment()`` ("pulling qwen3:8b 43 %") and looks again by itself; a program
    gets the same as JSON with status 503. Raises MachineError when the address cannot be had.
    """
    try:
        listener = await anyio.create_tcp_listener(local_host=host, local_port=port, reuse_port=False)
    except OSError as exc:
        problem = "is taken by another program" if exc.errno == errno.EADDRINUSE else f"cannot be used: {exc.strerror}"
        raise MachineError(
            f"port {port} on {host} {problem}; stop what holds it, or choose another with CLAWLAMA_OPENCLAW_PORT"
        ) from exc
    async with listener:
        task_status.started()
        await listener.serve(partial(join, inner, moment))


async def join(inner: int, moment: Callable[[], str], outside: SocketStream) -> None:
    """One connection, from its beginning to its end."""
    async with outside:
        try:
            inside = await anyio.connect_tcp("127.0.0.1", inner)
        except OSError:
            await say(outside, moment())
            return
        async with inside, anyio.create_task_group() as tg:
            tg.start_soon(pass_on, outside, inside, tg.cancel_scope)
            tg.start_soon(pass_on, inside, outside, tg.cancel_scope)


async def pass_on(source: ByteReceiveStream, target: ByteSendStream, both: anyio.CancelScope) -> None:
    """Bytes as they come. The end of one direction leaves the other open; a break ends both."""
    try:
        async for data in source:
            await target.send(data)
        if isinstance(target, SocketStream):
            await target.send_eof()
    except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
        both.cancel()


async def say(outside: SocketStream, moment: str) -> None:
    """Answer in OpenClaw's place, as the reader can read it."""
    with anyio.move_on_after(HEAD_WITHIN):
        try:
            head = await head_of(outside)
            await outside.send(answer(head, moment))
            await outside.send_eof()
        except (anyio.BrokenResourceError, anyio.EndOfStream, OSError) as exc:
            log.debug("a caller left the door", problem=str(exc))


async def head_of(stream: SocketStream) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head and len(head) < HEAD_LIMIT:
        head += await stream.receive()
    return head


def answer(head: bytes, moment: str) -> bytes:
    """A whole HTTP/1.1 response with status 503."""
    if re.search(rb"(?im)^accept:[^\r]*text/html", head):
        done = re.search(r"(\d+) ?%", moment)
        kind, body = (
            "text/html; charset=utf-8",
            fill("door/starting.html.j2", {"moment": moment, "done": done and done[1]}),
        )
    else:
        error = {"message": f"the assistant is not up yet: {moment}", "type": "unavailable"}
        kind, body = "application/json", json.dumps({"error": error})
    content = body.encode()
    lines = [
        "HTTP/1.1 503 Service Unavailable",
        f"Content-Type: {kind}",
        f"Content-Length: {len(content)}",
        "Retry-After: 2",
        "Cache-Control: no-store",
        "Connection: close",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + content
