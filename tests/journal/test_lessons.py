from datetime import UTC, datetime, timedelta

import anyio
import pytest
from pydantic import ValidationError

from supervisor.errors import JournalError, NoSuchEntry
from supervisor.journal.journal import Journal
from supervisor.journal.records import LessonState
from tests.journal.samples import ADAPTER, completion, feedback, taught

pytestmark = pytest.mark.anyio
NEVER = timedelta(days=1)
NOW = timedelta(0)


async def test_feedback_with_its_own_lesson_is_queued_at_once(journal: Journal) -> None:
    await journal.add_completion(written := completion())

    lesson = await taught(
        journal, feedback("shorter", completion_id=written.id), feedback("calmer"), learning_rate=1e-3
    )

    assert (lesson.state, lesson.feedback_count, lesson.training) == ("queued", 2, {"learning_rate": 1e-3})
    assert [item.text for item in await journal.feedback_of(lesson.id)] == ["shorter", "calmer"]
    assert await journal.lesson(lesson.id) == lesson


async def test_gathered_feedback_is_queued_when_the_batch_is_full(journal: Journal) -> None:
    given = [await taught(journal, gather=True, batch_size=3) for _ in range(4)]

    assert [lesson.state for lesson in given] == ["gathering", "gathering", "queued", "gathering"]
    assert len({lesson.id for lesson in given[:3]}) == 1
    assert given[3].id != given[2].id


async def test_different_wishes_or_adapters_are_gathered_apart(journal: Journal) -> None:
    lessons = [
        await taught(journal, gather=True),
        await taught(journal, gather=True, alpha=0.1),
        await taught(journal, feedback(adapter="someone/else"), gather=True),
        await taught(journal, *[feedback()] * 4, gather=True),
    ]

    assert len({lesson.id for lesson in lessons}) == 4
    assert [lesson.state for lesson in lessons] == ["gathering", "gathering", "gathering", "queued"]


async def test_feedback_on_an_unknown_completion_leaves_nothing_behind(journal: Journal) -> None:
    with pytest.raises(NoSuchEntry, match="cmpl-gone"):
        await taught(journal, feedback(), feedback(completion_id="cmpl-gone"))

    assert await journal.lessons(10) == []


async def test_a_lesson_takes_one_adapter(journal: Journal) -> None:
    with pytest.raises(JournalError, match="openclaw/assistant, someone/else"):
        await taught(journal, feedback(), feedback(adapter="someone/else"))


async def test_lessons_are_claimed_oldest_first_and_one_at_a_time_per_adapter(journal: Journal) -> None:
    first, second = await taught(journal), await taught(journal)
    other = await taught(journal, feedback(adapter="someone/else"))

    claimed = [await journal.claim_lesson(patience=NEVER) for _ in range(3)]
    await journal.update_lesson(first.id, state="done")
    after = await journal.claim_lesson(patience=NEVER)

    assert [lesson.id if lesson else None for lesson in claimed] == [first.id, other.id, None]
    assert claimed[0]
    assert (claimed[0].state, claimed[0].attempts) == ("running", 1)
    assert after
    assert after.id == second.id


async def test_a_gathering_lesson_is_due_when_nothing_was_added_for_a_while(journal: Journal) -> None:
    lesson = await taught(journal, gather=True)

    assert await journal.claim_lesson(patience=NEVER) is None
    assert await journal.next_due(NEVER) == lesson.fed + NEVER
    claimed = await journal.claim_lesson(patience=NOW)
    assert claimed
    assert claimed.id == lesson.id


async def test_nothing_is_due_while_the_adapter_is_busy(journal: Journal) -> None:
    await taught(journal)
    await journal.claim_lesson(patience=NEVER)
    await taught(journal)

    assert await journal.next_due(NEVER) is None


async def test_what_is_queued_is_due_already(journal: Journal) -> None:
    await taught(journal)

    due = await journal.next_due(NEVER)

    assert due is not None
    assert due <= datetime.now(UTC)


@pytest.mark.parametrize("by", ["id", "adapter"])
async def test_a_gathering_lesson_can_be_queued_now(journal: Journal, by: str) -> None:
    lesson = await taught(journal, gather=True)

    queued = await journal.queue_now(lesson.id if by == "id" else ADAPTER)

    assert queued
    assert (queued.id, queued.state) == (lesson.id, "queued")
    assert await journal.queue_now(ADAPTER) is None
    assert (await journal.queue_now(lesson.id)) == queued


async def test_an_ended_lesson_is_not_queued_again(journal: Journal) -> None:
    lesson = await taught(journal)
    await journal.update_lesson(lesson.id, state="failed", error="out of memory")

    with pytest.raises(JournalError, match="has ended \\(failed\\)"):
        await journal.queue_now(lesson.id)


async def test_what_was_under_way_is_queued_again_after_a_crash(journal: Journal) -> None:
    running, publishing, ended = await taught(journal), await taught(journal), await taught(journal)
    states: tuple[LessonState, ...] = ("running", "publishing", "done")
    for lesson, state in zip((running, publishing, ended), states, strict=True):
        await journal.update_lesson(lesson.id, state=state, progress=0.5)

    requeued = await journal.requeue_interrupted()

    assert [lesson.id for lesson in requeued] == [running.id, publishing.id]
    assert [lesson.state for lesson in await journal.lessons(10)] == ["done", "queued", "queued"]


async def test_a_lesson_that_is_stopped_waits_as_if_it_had_not_been_started(journal: Journal) -> None:
    await taught(journal)
    claimed = await journal.claim_lesson(patience=NOW)
    assert claimed is not None
    await journal.update_lesson(claimed.id, progress=0.5, step="training")

    released = await journal.release_lesson(claimed.id)

    assert (released.state, released.attempts) == ("queued", 0)
    assert await journal.lesson(claimed.id) == released
    again = await journal.claim_lesson(patience=NOW)
    assert again is not None
    assert (again.id, again.attempts) == (claimed.id, 1)


async def test_a_lesson_that_has_ended_cannot_be_stopped(journal: Journal) -> None:
    done = await journal.update_lesson((await taught(journal)).id, state="done")

    assert await journal.release_lesson(done.id) == done


async def test_the_end_of_a_lesson_is_stamped_and_its_numbers_kept(journal: Journal) -> None:
    lesson = await taught(journal)

    done = await journal.update_lesson(
        lesson.id,
        state="done",
        version="v0001",
        metrics={"total_loss": 0.25},
        timing_ms={"distill": 900.0},
        progress=1.0,
    )

    assert done.finished
    assert done.ended
    assert (await journal.lessons(1, states={"done"})) == [done]
    assert await journal.lessons(1, adapter="someone/else") == []


async def test_a_value_that_a_lesson_cannot_have_changes_nothing(journal: Journal) -> None:
    lesson = await taught(journal)

    with pytest.raises(ValidationError, match="progress"):
        await journal.update_lesson(lesson.id, progress=1.5)

    assert await journal.lesson(lesson.id) == lesson


async def test_fast_progress_is_seen_at_once_though_it_is_not_written_each_time(journal: Journal) -> None:
    lesson = await taught(journal)
    await journal.claim_lesson(patience=NEVER)

    for number in range(1, 101):
        await journal.update_lesson(lesson.id, progress=number / 100, step=f"update {number}")

    seen = await journal.lesson(lesson.id)
    assert (seen.progress, seen.step) == (1.0, "update 100")
    assert await journal.lessons(1) == [seen]
    assert (await journal.update_lesson(lesson.id, state="done")).step == "update 100"


async def test_every_reader_learns_of_the_last_change_however_slow_it_is(journal: Journal) -> None:
    async with journal.changes() as quick, journal.changes() as slow:
        lesson = await taught(journal)
        for number in range(1000):
            await journal.update_lesson(lesson.id, progress=number / 1000)
        await journal.update_lesson(lesson.id, state="done")

        with anyio.fail_after(5):
            for reader in (quick, slow):
                told = [await anext(reader) for _ in range(2)]
                assert [change.kind for change in told] == ["feedback", "lesson"]
    assert (await journal.lesson(lesson.id)).ended


async def test_a_reader_sleeps_until_something_changes(journal: Journal) -> None:
    seen: list[str] = []

    async def read() -> None:
        async with journal.changes() as changes:
            listening.set()
            async for change in changes:
                seen.append(change.kind)
                if change.kind == "lesson":
                    return

    listening = anyio.Event()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tg:
            tg.start_soon(read)
            await listening.wait()
            await journal.add_completion(completion())
            await taught(journal)

    assert seen[-1] == "lesson"
    assert "completion" in seen
