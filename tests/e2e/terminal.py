"""``clawlama up`` as a person runs it: on a terminal of 80 columns, with a key that interrupts it."""

import fcntl
import os
import pty
import struct
import sys
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio
from anyio.abc import Process

from supervisor.services.output import ESCAPES
from tests.e2e.product import PATIENCE, STOP_WITHIN, Place, clear_away

COLUMNS, ROWS = 80, 40
LOGIN = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "supervisor", "up"])
"""


@dataclass
class Screen:
    """What a terminal shows; ``text`` is all that was written to it."""

    master: int
    process: Process
    text: str = ""

    @property
    def lines(self) -> list[str]:
        return self.text.replace("\r", "").split("\n")

    async def shows(self, words: str) -> None:
        """Return once these words stand on it."""
        with anyio.fail_after(PATIENCE):
            while words not in self.text:
                assert await self._read(), f"it ended: {self.text[-3000:]}"

    async def interrupt(self) -> int:
        """Ctrl-C, and the exit code."""
        os.write(self.master, b"\x03")
        with anyio.fail_after(STOP_WITHIN):
            while await self._read():
                pass
            return await self.process.wait()

    async def close(self) -> int:
        """The window is closed; the exit code of who ran in it."""
        os.close(self.master)
        self.master = -1
        with anyio.fail_after(STOP_WITHIN):
            return await self.process.wait()

    async def _read(self) -> bool:
        """Take what was written since; False when nobody can write any more."""
        await anyio.wait_readable(self.master)
        try:
            data = os.read(self.master, 65536)
        except OSError:  # EIO: the last one who had the terminal is gone
            return False
        self.text += ESCAPES.sub(b"", data).decode(errors="replace")
        return True


@asynccontextmanager
async def on_terminal(place: Place) -> AsyncIterator[Screen]:
    """Killed when the block ends, if it still lives then; whatever is left of it goes too."""
    place.temporary.mkdir(parents=True, exist_ok=True)
    master, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    process = await anyio.open_process(
        [sys.executable, "-c", LOGIN], env=place.environment(), stdin=terminal, stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    screen = Screen(master, process)
    try:
        yield screen
    finally:
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
                await process.wait()
        if screen.master != -1:
            os.close(master)
        clear_away(place)
