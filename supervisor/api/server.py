"""Uvicorn inside our event loop: signals are not its business, cancelling stops it, a taken port is a clear error."""

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import uvicorn
from anyio.abc import TaskStatus
from starlette.types import ASGIApp

from supervisor.errors import MachineError

FINISH_WITHIN = 2  # seconds that open requests get when we stop; then they are cut
STOP_WITHIN = 4.0  # seconds for all of it
POLL = 0.02  # seconds; uvicorn announces nothing
TICK = 1.0  # seconds; that is how exact the Date header is


class Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._ending = anyio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the supervisor."""
        yield

    async def main_loop(self) -> None:
        """Uvicorn's wakes ten times a second, which would be most of what we cost an idle machine."""
        while not await self.on_tick(0):
            with anyio.move_on_after(TICK):
                await self._ending.wait()

    def end(self) -> None:
        self.should_exit = True
        self._ending.set()


async def serve(
    app: ASGIApp, *, host: str, port: int, task_status: TaskStatus[int] = anyio.TASK_STATUS_IGNORED
) -> None:
    """Serve until cancelled; reports the port (which it picks when that is 0) once requests are accepted.

    Raises MachineError when the address cannot be had. Cancelled, it lets open requests finish for two seconds, then
    cuts them, which they see as their client leaving; what they still have to write down is awaited.
    """
    server = Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            ws="none",
            lifespan="on",
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=FINISH_WITHIN + 1,
        )
    )
    with bound(host, port) as listener:
        async with anyio.create_task_group() as tg:
            life = anyio.CancelScope(shield=True)
            tg.start_soon(_run, server, listener, life)
            try:
                while not server.started:  # noqa: ASYNC110
                    await anyio.sleep(POLL)
                task_status.started(listener.getsockname()[1])
                await anyio.sleep_forever()
            finally:
                server.end()
                life.deadline = anyio.current_time() + STOP_WITHIN
                with anyio.CancelScope(shield=True):
                    await _cut_connections(server)


@contextmanager
def bound(host: str, port: int) -> Iterator[socket.socket]:
    """A listening socket. Raises MachineError that names the address, what is wrong, and the remedy."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=2048, dualstack_ipv6=host == "::")
    except OSError as exc:
        problem = "is taken by another program" if exc.errno == errno.EADDRINUSE else f"cannot be used: {exc.strerror}"
        raise MachineError(
            f"port {port} on {host} {problem}; stop what holds it, or choose another with CLAWLAMA_API_PORT"
        ) from exc
    with listener:
        # What asyncio does for sockets that it makes: else each piece of a stream may wait 40 ms for the client's ACK.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield listener


async def _run(server: Server, listener: socket.socket, life: anyio.CancelScope) -> None:
    """Shielded: it ends through ``should_exit``, in order, and not in the middle of a request."""
    with life:
        await server.serve(sockets=[listener])
        while server.server_state.tasks:  # noqa: ASYNC110 - requests that were cut write down what they have
            await anyio.sleep(POLL)


async def _cut_connections(server: Server) -> None:
    """After a while close what is still open: a request notices that and ends by itself."""
    with anyio.move_on_after(FINISH_WITHIN):
        while server.server_state.connections:  # noqa: ASYNC110
            await anyio.sleep(POLL)
    for connection in list(server.server_state.connections):
        connection.transport.abort()
