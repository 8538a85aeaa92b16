"""Feedback waits here in lessons until one is due. Each function is part of a transaction of the caller."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import RowMapping, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from supervisor.errors import JournalError, NoSuchEntry
from supervisor.journal.records import UNDER_WAY, Feedback, Lesson, LessonState, NewFeedback, new_id
from supervisor.journal.tables import completions, feedback, lessons


def lesson_of(row: RowMapping) -> Lesson:
    return Lesson.model_validate(dict(row))


async def get(connection: AsyncConnection, lesson_id: str) -> Lesson:
    """One lesson; NoSuchEntry when there is none."""
    row = (await connection.execute(select(lessons).where(lessons.c.id == lesson_id))).mappings().one_or_none()
    if row is None:
        raise NoSuchEntry("lesson", lesson_id)
    return lesson_of(row)


async def put(connection: AsyncConnection, lesson: Lesson) -> None:
    """Write a lesson over its older self."""
    await connection.execute(update(lessons).where(lessons.c.id == lesson.id).values(lesson.model_dump()))


async def in_state(connection: AsyncConnection, *states: LessonState, adapter: str | None = None) -> list[Lesson]:
    """Lessons in these states, oldest first."""
    query = select(lessons).where(lessons.c.state.in_(states)).order_by(lessons.c.id)
    if adapter is not None:
        query = query.where(lessons.c.adapter == adapter)
    return [lesson_of(row) for row in (await connection.execute(query)).mappings()]


async def add(
    connection: AsyncConnection,
    items: Sequence[NewFeedback],
    *,
    training: Mapping[str, Any],
    orchestration: Mapping[str, Any],
    gather: bool,
    batch_size: int,
) -> tuple[Lesson, list[Feedback]]:
    """Put feedback into a lesson: its own, or a gathering one with the same wishes and room for all of it."""
    adapter = _one_adapter(items)
    await _check_completions(connection, items)
    lesson = None
    if gather:
        waiting = await in_state(connection, "gathering", adapter=adapter)
        lesson = _with_room(waiting, len(items), batch_size, training, orchestration)
    if lesson is None:
        lesson = _empty_lesson(adapter, training, orchestration)
        await connection.execute(insert(lessons).values(lesson.model_dump()))
    now, count = datetime.now(UTC), lesson.feedback_count + len(items)
    state: LessonState = "gathering" if gather and count < batch_size else "queued"
    lesson = lesson.model_copy(update={"feedback_count": count, "fed": now, "changed": now, "state": state})
    await put(connection, lesson)
    added = [Feedback(**item.model_dump(), id=new_id("fb"), created=now, lesson_id=lesson.id) for item in items]
    await connection.execute(insert(feedback), [item.model_dump() for item in added])
    return lesson, added


async def claim(connection: AsyncConnection, patience: timedelta) -> Lesson | None:
    """Start the oldest lesson that is due and whose adapter is free; None while there is none."""
    now = datetime.now(UTC)
    for lesson in await _startable(connection):
        if due(lesson, patience) <= now:
            changes = {"state": "running", "attempts": lesson.attempts + 1, "started": now, "changed": now}
            started = lesson.model_copy(update={**changes, "progress": 0.0, "step": "", "error": None})
            await put(connection, started)
            return started
    return None


async def next_due(connection: AsyncConnection, patience: timedelta) -> datetime | None:
    """When ``claim`` will next find something, as far as is known now."""
    return min((due(lesson, patience) for lesson in await _startable(connection)), default=None)


def due(lesson: Lesson, patience: timedelta) -> datetime:
    """A full lesson is due since it is full, another once nobody has added to it for ``patience``."""
    return lesson.changed if lesson.state == "queued" else lesson.fed + patience


async def requeue(connection: AsyncConnection) -> list[Lesson]:
    """Queue again what was under way when the supervisor died."""
    interrupted = await in_state(connection, *UNDER_WAY)
    changes = {"state": "queued", "changed": datetime.now(UTC), "step": "interrupted; waiting to start again"}
    queued = [lesson.model_copy(update=changes) for lesson in interrupted]
    for lesson in queued:
        await put(connection, lesson)
    return queued


async def release(connection: AsyncConnection, lesson_id: str) -> Lesson:
    """Undo a claim."""
    lesson = await get(connection, lesson_id)
    if lesson.state in UNDER_WAY:
        changes = {"state": "queued", "attempts": lesson.attempts - 1, "changed": datetime.now(UTC)}
        lesson = lesson.model_copy(update={**changes, "step": "stopped; waiting to start again"})
        await put(connection, lesson)
    return lesson


async def _startable(connection: AsyncConnection) -> list[Lesson]:
    busy = {lesson.adapter for lesson in await in_state(connection, *UNDER_WAY)}
    return [lesson for lesson in await in_state(connection, "queued", "gathering") if lesson.adapter not in busy]


def _one_adapter(items: Sequence[NewFeedback]) -> str:
    adapters = sorted({item.adapter for item in items})
    if len(adapters) != 1:
        named = ", ".join(adapters) or "none"
        raise JournalError(
            f"a lesson takes feedback on exactly one adapter, this names {named}; send one lesson for each"
        )
    return adapters[0]


async def _check_completions(connection: AsyncConnection, items: Sequence[NewFeedback]) -> None:
    named = {item.completion_id for item in items if item.completion_id is not None}
    found = await connection.execute(select(completions.c.id).where(completions.c.id.in_(named)))
    for missing in sorted(named - set(found.scalars())):
        raise NoSuchEntry("completion", missing)


def _with_room(
    waiting: Sequence[Lesson],
    count: int,
    batch_size: int,
    training: Mapping[str, Any],
    orchestration: Mapping[str, Any],
) -> Lesson | None:
    for lesson in waiting:
        same_wishes = lesson.training == training and lesson.orchestration == orchestration
        if same_wishes and lesson.feedback_count + count <= batch_size:
            return lesson
    return None


def _empty_lesson(adapter: str, training: Mapping[str, Any], orchestration: Mapping[str, Any]) -> Lesson:
    now = datetime.now(UTC)
    return Lesson(
        id=new_id("les"),
        adapter=adapter,
        state="gathering",
        created=now,
        changed=now,
        fed=now,
        training=dict(training),
        orchestration=dict(orchestration),
    )
