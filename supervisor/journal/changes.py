"""Tells any number of readers, in this process, that the journal changed. A slow reader delays nobody."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from supervisor.journal.records import Change


class Changes(AsyncIterator[Change]):
    """What one reader has not looked at yet, oldest first.

    Several changes of one lesson, or several completions or feedbacks, that were not read in time are told as one:
    the newest. So what waits here is bounded, and "something changed" is never lost.
    """

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, str], Change] = {}
        self._arrived = anyio.Event()

    def put(self, change: Change) -> None:
        key = (change.kind, change.id if change.kind == "lesson" else "")
        self._waiting[key] = change
        self._arrived.set()

    async def __anext__(self) -> Change:
        while not self._waiting:
            self._arrived = anyio.Event()
            await self._arrived.wait()
        return self._waiting.pop(next(iter(self._waiting)))


class Announcer:
    """Hands every change to every reader; never waits."""

    def __init__(self) -> None:
        self._readers: set[Changes] = set()

    def announce(self, change: Change) -> None:
        for reader in self._readers:
            reader.put(change)

    @asynccontextmanager
    async def subscribed(self) -> AsyncIterator[Changes]:
        reader = Changes()
        self._readers.add(reader)
        try:
            yield reader
        finally:
            self._readers.discard(reader)
