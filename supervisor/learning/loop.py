"""Waits for feedback to become a lesson, and teaches one lesson at a time."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import anyio
import structlog

from supervisor.errors import EngineError
from supervisor.journal.changes import Changes
from supervisor.learning.lesson import Teaching, teach

STOP_WITHIN = 2.0  # seconds to note that a lesson was stopped

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass
class Learning:
    """``patience``: how long an unfilled batch waits for more feedback."""

    teaching: Teaching
    patience: timedelta
    teaching_now: str | None = None  # the lesson under way, for health
    again_in: float = 10.0  # seconds until an engine that is gone is looked for again

    async def run(self) -> None:
        """Teach until cancelled. A lesson under way then, or when we died before, is taken up at the next start."""
        journal = self.teaching.journal
        await journal.requeue_interrupted()
        async with journal.changes() as changes:
            while True:
                lesson = await journal.claim_lesson(patience=self.patience)
                if lesson is None:
                    await self._wait(changes)
                    continue
                self.teaching_now = lesson.id
                there = False
                try:
                    if there := await self._base_is_there():
                        await teach(self.teaching, lesson)
                    else:
                        await journal.release_lesson(lesson.id)
                except anyio.get_cancelled_exc_class():
                    with anyio.move_on_after(STOP_WITHIN, shield=True):
                        await journal.release_lesson(lesson.id)
                    raise
                finally:
                    self.teaching_now = None
                if not there:
                    await anyio.sleep(self.again_in)

    async def _base_is_there(self) -> bool:
        """A server that is gone costs a lesson none of its attempts: it waits for the return."""
        try:
            await self.teaching.base.now()
        except EngineError as exc:
            log.warning("lesson waits", problem=str(exc), again_in=self.again_in)
            return False
        return True

    async def _wait(self, changes: Changes) -> None:
        """Until the journal changes, or a gathering lesson has waited long enough."""
        due = await self.teaching.journal.next_due(self.patience)
        left = float("inf") if due is None else max(0.05, (due - datetime.now(UTC)).total_seconds())
        with anyio.move_on_after(left):
            await anext(changes)
