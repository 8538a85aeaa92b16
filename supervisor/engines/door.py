"""Requests pass while the door is open; whoever closes it waits until all are out."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio


class Door:
    """Lets an engine change versions, or give its memory back, without cutting a reply short."""

    def __init__(self) -> None:
        self._inside = 0
        self._open = anyio.Event()
        self._open.set()
        self._empty = anyio.Event()
        self._empty.set()

    @property
    def is_open(self) -> bool:
        return self._open.is_set()

    @asynccontextmanager
    async def passing(self) -> AsyncIterator[None]:
        """Be inside for the length of the block, waiting outside while the door is closed."""
        while not self._open.is_set():
            await self._open.wait()
        self._inside += 1
        if self._inside == 1:
            self._empty = anyio.Event()
        try:
            yield
        finally:
            self._inside -= 1
            if self._inside == 0:
                self._empty.set()

    async def close(self, *, drain: float) -> bool:
        """Let nobody in any more and wait ``drain`` seconds for those inside; False when some are still there."""
        if self._open.is_set():
            self._open = anyio.Event()
        with anyio.move_on_after(drain):
            await self._empty.wait()
        return self._inside == 0

    def open(self) -> None:
        self._open.set()
