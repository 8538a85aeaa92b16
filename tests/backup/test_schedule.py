"""When a backup is due that is made by itself, which go, and what is said when none can be made."""

import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest
from anyio import to_thread

from supervisor.backup.manifest import SCHEMA
from supervisor.backup.models import OURS
from supervisor.backup.schedule import BackingUp, Schedule, archives, due, prune, surplus
from supervisor.engines.ollama.publish import NAMESPACE
from supervisor.journal.tables import HEAD
from supervisor.services.output import Output
from tests.backup.folders import used

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def names(*days: int) -> list[str]:
    return [f"clawlama-auto-202611{day:02d}-120000.tar.zst" for day in days]


def test_constants_that_are_kept_twice_are_the_same() -> None:
    assert (SCHEMA, OURS) == (HEAD, NAMESPACE)


@pytest.mark.parametrize(
    ("made", "failed", "when"),
    [
        ([], None, NOW),
        ([NOW - HOUR], None, NOW - HOUR + DAY),
        ([NOW - 3 * DAY, NOW - 2 * DAY], None, NOW - DAY),
        ([NOW + 30 * DAY], None, NOW),  # the clock was wrong when it was made
        ([NOW + 30 * DAY, NOW - HOUR], None, NOW - HOUR + DAY),
        ([NOW - 2 * DAY], NOW - HOUR / 2, NOW + HOUR / 2),
        ([NOW - 2 * DAY], NOW + DAY, NOW - DAY),
    ],
)
def test_the_next_one_is_due(made: list[datetime], failed: datetime | None, when: datetime) -> None:
    assert due(made, failed, DAY, NOW) == when


@pytest.mark.parametrize(("keep", "gone"), [(1, names(3, 2, 1)), (2, names(2, 1)), (3, names(1)), (4, []), (7, [])])
def test_the_oldest_go_and_what_people_made_stays(keep: int, gone: list[str]) -> None:
    theirs = ["clawlama-20260101-000000.tar.zst", "notes.txt"]

    assert surplus([*theirs, *names(2, 1, 3)], keep) == gone


def test_pruning_removes_files_and_only_those(tmp_path: Path) -> None:
    for name in (*names(1, 2, 3, 4), "mine.tar.zst"):
        (tmp_path / name).touch()

    prune(Schedule(DAY, 2, tmp_path), names(1, 2, 3))

    assert sorted(path.name for path in tmp_path.iterdir()) == [*names(3, 4), "mine.tar.zst"]


def backing_up(root: Path, folder: Path) -> BackingUp:
    around = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)}
    return BackingUp(Schedule(DAY, 7, folder), root, around, Output("backup"))


@pytest.mark.anyio
async def test_one_is_made_at_once_and_the_next_when_it_is_due(tmp_path: Path) -> None:
    data = await to_thread.run_sync(used, tmp_path / "data")
    loop = backing_up(data.root, tmp_path / "backups")

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tg:
            tg.start_soon(loop.run)
            while not archives(tmp_path / "backups"):  # noqa: ASYNC110 - nothing announces it
                await anyio.sleep(0.05)
            tg.cancel_scope.cancel()

    assert loop.problem == ""
    assert len(archives(tmp_path / "backups")) == 1


@pytest.mark.anyio
async def test_a_failure_is_said_and_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    data = await to_thread.run_sync(used, tmp_path / "data")
    loop = backing_up(data.root, tmp_path / "file" / "below")

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tg:
            tg.start_soon(loop.run)
            while not loop.problem:  # noqa: ASYNC110 - nothing announces it
                await anyio.sleep(0.05)
            tg.cancel_scope.cancel()

    assert "the last backup failed (exit code 1)" in loop.problem
