"""What happened: every completion, all feedback, the lessons made of it. The API writes here, learning reads here."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Unpack

import anyio
from sqlalchemy import RowMapping, Select, func, insert, select

from supervisor.errors import JournalError, NoSuchEntry
from supervisor.journal import queue
from supervisor.journal.changes import Announcer, Changes
from supervisor.journal.database import Database, connected
from supervisor.journal.records import (
    ENDED,
    UNDER_WAY,
    Change,
    Completion,
    Feedback,
    Lesson,
    LessonChanges,
    LessonState,
    NewFeedback,
)
from supervisor.journal.schema import bring_up_to_date
from supervisor.journal.tables import completions, feedback, lessons
from supervisor.journal.visible import content_text, digest, was_asked

FLEETING = frozenset({"progress", "step"})  # changes that need not reach the disk each
WRITE_EVERY = 0.5  # seconds between two of them that do


@asynccontextmanager
async def open_journal(url: str) -> AsyncIterator["Journal"]:
    """The journal at ``sqlite:///FILE`` or ``postgresql://…``, made or brought up to date first.

    Raises JournalError when it cannot be opened or was written by a newer clawlama.
    """
    async with connected(url) as database:
        async with database.writing() as connection:
            await connection.run_sync(bring_up_to_date)
        yield Journal(database)


@dataclass(frozen=True)
class Live:
    """A lesson under way as it is now, which may be newer than its row; and when that row was written (monotonic)."""

    lesson: Lesson
    written: float


@dataclass(frozen=True)
class Tally:
    lessons: int
    feedback: int


class Journal:
    """What a method returns is committed and survives a kill or a power cut, all but progress of a running lesson.

    Every method raises JournalError when the database fails.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._announcer = Announcer()
        self._live: dict[str, Live] = {}

    def changes(self) -> AbstractAsyncContextManager[Changes]:
        """Changes from here on. Subscribe first, then read, then wait: nothing is missed in between."""
        return self._announcer.subscribed()

    # Completions

    async def add_completion(self, completion: Completion) -> None:
        row = completion.model_dump() | {"reply_digest": digest(content_text(completion.reply.get("content")))}
        async with self._database.writing() as connection:
            await connection.execute(insert(completions).values(row))
        self._announcer.announce(Change(kind="completion", id=completion.id))

    async def completion(self, completion_id: str) -> Completion:
        """One completion; NoSuchEntry when there is none."""
        found = await self._completions(select(completions).where(completions.c.id == completion_id))
        if not found:
            raise NoSuchEntry("completion", completion_id)
        return found[0]

    async def completions(self, limit: int, before: str | None = None) -> list[Completion]:
        """The newest completions, newest first; with ``before`` those older than that id."""
        query = select(completions).order_by(completions.c.id.desc()).limit(limit)
        return await self._completions(query if before is None else query.where(completions.c.id < before))

    async def find_completion(self, adapter: str, prompt: str | None, response: str) -> Completion | None:
        """The newest reply whose visible text is ``response``, by preference one to a message that holds ``prompt``."""
        query = (
            select(completions)
            .where(completions.c.adapter == adapter, completions.c.reply_digest == digest(response))
            .order_by(completions.c.id.desc())
            .limit(50)
        )
        found = await self._completions(query)
        asked = [one for one in found if prompt is None or was_asked(one.messages, prompt)]
        return next(iter(asked or found), None)

    async def _completions(self, query: Select[Any]) -> list[Completion]:
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return [_completion(row) for row in rows]

    # Feedback and lessons

    async def add_feedback(
        self,
        items: Sequence[NewFeedback],
        *,
        training: Mapping[str, Any],
        orchestration: Mapping[str, Any],
        gather: bool,
        batch_size: int,
    ) -> Lesson:
        """Keep feedback of one adapter together with its lesson, which is returned.

        With ``gather`` it joins a gathering lesson of the same wishes, which is queued once it holds ``batch_size``;
        without, it is a queued lesson of its own. NoSuchEntry for a completion id that is not here.
        """
        async with self._database.writing() as connection:
            lesson, added = await queue.add(
                connection, items, training=training, orchestration=orchestration, gather=gather, batch_size=batch_size
            )
        for item in added:
            self._announcer.announce(Change(kind="feedback", id=item.id))
        return self._announced(lesson)

    async def feedback_of(self, lesson_id: str) -> list[Feedback]:
        """A lesson's feedback, oldest first."""
        query = select(feedback).where(feedback.c.lesson_id == lesson_id).order_by(feedback.c.id)
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return [Feedback.model_validate(dict(row)) for row in rows]

    async def lesson(self, lesson_id: str) -> Lesson:
        """One lesson as it is now; NoSuchEntry when there is none."""
        if lesson_id in self._live:
            return self._live[lesson_id].lesson
        async with self._database.reading() as connection:
            return await queue.get(connection, lesson_id)

    async def lessons(
        self, limit: int, adapter: str | None = None, states: Collection[LessonState] | None = None
    ) -> list[Lesson]:
        """The newest lessons, newest first."""
        query = select(lessons).order_by(lessons.c.id.desc()).limit(limit)
        if adapter is not None:
            query = query.where(lessons.c.adapter == adapter)
        if states is not None:
            query = query.where(lessons.c.state.in_(states))
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return [self._now(queue.lesson_of(row)) for row in rows]

    async def tally(self) -> dict[LessonState, Tally]:
        """How many lessons of each state there are, and how much feedback went into them; none: the state is absent."""
        query = select(lessons.c.state, func.count(), func.sum(lessons.c.feedback_count)).group_by(lessons.c.state)
        async with self._database.reading() as connection:
            return {state: Tally(count, int(fed)) for state, count, fed in await connection.execute(query)}

    async def claim_lesson(self, *, patience: timedelta) -> Lesson | None:
        """Start the oldest lesson that is queued, or that gathers and was not added to for ``patience``.

        None when there is none. An adapter has one lesson under way at most.
        """
        async with self._database.writing() as connection:
            lesson = await queue.claim(connection, patience)
        return None if lesson is None else self._announced(lesson)

    async def next_due(self, patience: timedelta) -> datetime | None:
        """When ``claim_lesson`` has something next (the past: at once); None until a change is announced."""
        async with self._database.reading() as connection:
            return await queue.next_due(connection, patience)

    async def queue_now(self, target: str) -> Lesson | None:
        """Learn without waiting for more feedback. ``target``: a lesson's id, or an adapter for its gathering lesson.

        A lesson on its way already is returned as it is; None when the adapter has none gathering. NoSuchEntry for an
        unknown lesson, JournalError for one that has ended.
        """
        async with self._database.writing() as connection:
            if target.startswith("les-"):
                lesson = await queue.get(connection, target)
            else:
                gathering = await queue.in_state(connection, "gathering", adapter=target)
                if not gathering:
                    return None
                lesson = gathering[0]
            if lesson.ended:
                raise JournalError(
                    f"lesson {lesson.id} has ended ({lesson.state}); send the feedback again for another"
                )
            if lesson.state == "gathering":
                lesson = _with_stamps(lesson, {"state": "queued"})
                await queue.put(connection, lesson)
        return self._announced(self._now(lesson))

    async def update_lesson(self, lesson_id: str, **changes: Unpack[LessonChanges]) -> Lesson:
        """Change a lesson and announce it. Progress of a lesson under way reaches the disk about twice a second.

        NoSuchEntry when there is no such lesson; pydantic's ValidationError for a value that a lesson cannot have.
        """
        live = self._live.get(lesson_id)
        if live and changes.keys() <= FLEETING and anyio.current_time() - live.written < WRITE_EVERY:
            lesson = _with_stamps(live.lesson, changes)
            self._live[lesson_id] = Live(lesson, live.written)
            return self._announced(lesson)
        async with self._database.writing() as connection:
            lesson = _with_stamps(self._now(await queue.get(connection, lesson_id)), changes)
            await queue.put(connection, lesson)
        self._live[lesson_id] = Live(lesson, anyio.current_time())
        if lesson.state not in UNDER_WAY:
            del self._live[lesson_id]
        return self._announced(lesson)

    async def release_lesson(self, lesson_id: str) -> Lesson:
        """Queue a lesson again that is being stopped; the attempt does not count. One not under way is left alone."""
        async with self._database.writing() as connection:
            lesson = await queue.release(connection, lesson_id)
        self._live.pop(lesson_id, None)
        return self._announced(lesson)

    async def requeue_interrupted(self) -> list[Lesson]:
        """Queue again what was under way when the supervisor died. For boot, before anything claims."""
        async with self._database.writing() as connection:
            queued = await queue.requeue(connection)
        self._live.clear()
        return [self._announced(lesson) for lesson in queued]

    def _now(self, lesson: Lesson) -> Lesson:
        live = self._live.get(lesson.id)
        return lesson if live is None else live.lesson

    def _announced(self, lesson: Lesson) -> Lesson:
        self._announcer.announce(Change(kind="lesson", id=lesson.id))
        return lesson


def _completion(row: RowMapping) -> Completion:
    return Completion.model_validate({name: value for name, value in row.items() if name != "reply_digest"})


def _with_stamps(lesson: Lesson, changes: LessonChanges) -> Lesson:
    now = datetime.now(UTC)
    values = lesson.model_dump() | changes | {"changed": now}
    if values["state"] in ENDED and not lesson.ended:
        values["finished"] = now
    return Lesson.model_validate(values)
