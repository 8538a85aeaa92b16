"""Waits for feedback to become a lesson, and teaches one lesson at a time."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import anyio

from supervisor.journal.changes import Changes
from supervisor.learning.lesson import Teaching, teach

STOP_WITHIN = 2.0  # seconds to note that a lesson was stopped


@dataclass
class Learning:
    """``patience``: how long an unfilled batch waits for more feedback."""

    teaching: Teaching
    patience: timedelta
    teaching_now: str | None = None  # the lesson under way, for health

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
                try:
                    await teach(self.teaching, lesson)
                except anyio.get_cancelled_exc_class():
                    with anyio.move_on_after(STOP_WITHIN, shield=True):
                        await journal.release_lesson(lesson.id)
                    raise
                finally:
                    self.teaching_now = None

    async def _wait(self, changes: Changes) -> None:
        """Until the journal changes, or a gathering lesson has waited long enough."""
        due = await self.teaching.journal.next_due(self.patience)
        left = float("inf") if due is None else max(0.05, (due - datetime.now(UTC)).total_seconds())
        with anyio.move_on_after(left):
            await anext(changes)
