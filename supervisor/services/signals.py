"""Signals: the first SIGTERM or SIGINT stops in order, the next one at once, SIGHUP reloads."""

import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import anyio
import structlog
from anyio.abc import TaskStatus

from supervisor.services.reaper import kill_descendants

HEEDED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
TERMINAL: Final = 2  # stderr

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Signals:
    """``reload`` is what SIGHUP asks for, set once there is something to reload."""

    def __init__(self, block: anyio.CancelScope, tell: Callable[[str], None]) -> None:
        self.reload: Callable[[], Awaitable[object]] | None = None
        self.listening = anyio.CancelScope(shield=True)  # to the end of the stop
        self._block = block
        self._tell = tell
        self._on_terminal = os.isatty(TERMINAL)

    def stop(self) -> None:
        """Cancel the block, as SIGTERM does."""
        if not self._block.cancel_called:
            self._tell("stopping")
            self._block.cancel("asked to stop")

    async def listen(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        with self.listening, anyio.open_signal_receiver(*HEEDED) as received:
            task_status.started()
            async with anyio.create_task_group() as tg:
                async for number in received:
                    if number == signal.SIGHUP and not self._terminal_closed():
                        tg.start_soon(self._reload)
                    elif not self._block.cancel_called:
                        self.stop()
                    elif number != signal.SIGHUP:
                        self._tell("stopping at once")
                        tg.start_soon(keep_killing)
        # Whatever comes from here on must not turn a good end into a bad one.
        for number in HEEDED:
            signal.signal(number, signal.SIG_IGN)

    async def _reload(self) -> None:
        if self.reload is None or self._block.cancel_called:
            log.warning("SIGHUP changes nothing now", reason="stopping" if self._block.cancel_called else "starting")
            return
        try:
            await self.reload()
        except Exception:  # the outermost ring: whatever is wrong with the new settings, the old ones serve
            log.exception("reload failed")

    def _terminal_closed(self) -> bool:
        """Whether SIGHUP has its old meaning: the window is gone, and with it whoever could press Ctrl-C."""
        if not self._on_terminal or os.isatty(TERMINAL):
            return False
        nowhere = os.open(os.devnull, os.O_RDWR)  # what is still written would fail
        for number in range(TERMINAL + 1):
            os.dup2(nowhere, number)
        os.close(nowhere)
        return True


@asynccontextmanager
async def signals_heeded(tell: Callable[[str], None]) -> AsyncIterator[Signals]:
    """Signals act on the block; ``tell`` gets a line for people when they stop it."""
    async with anyio.create_task_group() as tg:
        signals = Signals(tg.cancel_scope, tell)
        await tg.start(signals.listen)
        try:
            yield signals
        finally:
            signals.listening.cancel()
        tg.cancel_scope.cancel()


async def keep_killing() -> None:
    """No grace for anybody: who waits for a child has it at once."""
    while True:
        kill_descendants()
        await anyio.sleep(0.02)
