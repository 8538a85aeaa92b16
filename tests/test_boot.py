"""What boot does before it makes anything; the whole of it is tested in e2e."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from supervisor.adapters.store import AdapterStore
from supervisor.boot import end_leftovers, forget_unfinished
from supervisor.errors import AlreadyRunning
from supervisor.services.reaper import OWNER_VARIABLE, owner_mark
from supervisor.settings.datadir import DataDir
from tests.adapters.versions import NAME, fill, made
from tests.settings.test_datadir import other_holder


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    folder = DataDir(tmp_path / "data")
    folder.prepare()
    return folder


@contextmanager
def left_running(data: DataDir) -> Iterator[subprocess.Popen[bytes]]:
    """A process that a supervisor of this folder started."""
    marked = {**os.environ, OWNER_VARIABLE: owner_mark(str(data.root), "earlier")}
    with subprocess.Popen(["sleep", "600"], env=marked) as process:
        try:
            yield process
        finally:
            process.kill()


def test_what_a_dead_supervisor_left_running_is_ended(data: DataDir) -> None:
    with left_running(data) as process:
        end_leftovers(data)

        assert process.wait(timeout=10) == -9


def test_what_a_living_supervisor_runs_is_left_alone(data: DataDir) -> None:
    with left_running(data) as process, other_holder(data):
        with pytest.raises(AlreadyRunning):
            end_leftovers(data)

        assert process.poll() is None


def test_looking_for_leftovers_makes_no_folder(tmp_path: Path) -> None:
    end_leftovers(DataDir(tmp_path / "data"))

    assert not (tmp_path / "data").exists()


def test_a_lesson_that_was_cut_short_leaves_only_what_is_whole(data: DataDir) -> None:
    adapters = AdapterStore(data.adapters)
    whole = made(adapters)
    fill(adapters.stage(NAME, "v0002"))
    (data.lessons / "les-1").mkdir()
    (data.lessons / "les-1" / "job.json").touch()

    forget_unfinished(data)

    assert list(data.lessons.iterdir()) == []
    assert sorted(path.name for path in adapters.home(NAME).iterdir()) == [whole.manifest.version]
    assert adapters.versions(NAME) == [whole]
