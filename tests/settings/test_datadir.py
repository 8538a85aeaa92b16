import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from supervisor.errors import AlreadyRunning, MachineError
from supervisor.running import Running, forget_running, held, read_running, write_running
from supervisor.settings.datadir import DataDir

HOLD = """
import sys, time
from pathlib import Path
from supervisor.settings.datadir import DataDir
with DataDir(Path(sys.argv[1])).locked():
    print("held", flush=True)
    time.sleep(60)
"""
RUNNING = Running(
    pid=1,
    version="0",
    model="tiny-chat",
    adapter="a",
    api_url="http://127.0.0.1:1",
    api_token="t",
    openclaw_url="http://127.0.0.1:2",
    openclaw_token="u",
)


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    folder = DataDir(tmp_path / "data")
    folder.prepare()
    return folder


@contextmanager
def other_holder(data: DataDir) -> Iterator[int]:
    """Another process that holds the folder; its pid."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(data.root)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        try:
            yield holder.pid
        finally:
            holder.kill()


def test_naming_paths_touches_nothing(tmp_path: Path) -> None:
    folder = DataDir(tmp_path / "data")

    assert folder.journal.parent == folder.root
    assert not folder.root.exists()


def test_folders_are_made_for_their_owner_alone(data: DataDir) -> None:
    for path in (data.root, data.adapters, data.lessons, data.feedback, data.secrets, data.logs, data.run):
        assert path.stat().st_mode & 0o777 == 0o700
    data.prepare()


def test_a_file_in_the_way_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(MachineError, match=r"file/data cannot be created: Not a directory; choose another"):
        DataDir(tmp_path / "file" / "data").prepare()


def test_a_folder_where_nothing_can_be_written_is_named() -> None:
    with pytest.raises(MachineError, match=r"/proc/clawlama cannot be created"):
        DataDir(Path("/proc/clawlama")).prepare()


def test_a_second_holder_learns_the_first_ones_pid(data: DataDir) -> None:
    with other_holder(data) as pid, pytest.raises(AlreadyRunning, match=rf"\(pid {pid}\)"), data.locked():
        pass


def test_a_killed_holder_leaves_the_folder_free(data: DataDir) -> None:
    with other_holder(data) as pid:
        assert held(data)
        os.kill(pid, signal.SIGKILL)

    assert not held(data)
    with data.locked():
        assert (data.run / "lock").read_text() == f"{os.getpid()}\n"


def test_a_lock_that_cannot_be_written_is_named_with_the_remedy(data: DataDir) -> None:
    (data.run / "lock").mkdir()

    with (
        pytest.raises(MachineError, match=r"run/lock cannot be opened: Is a directory; make the data folder"),
        data.locked(),
    ):
        pass


def test_what_runs_is_found_only_while_it_holds_the_folder(data: DataDir) -> None:
    with data.locked():
        assert read_running(data) is None
        write_running(data, RUNNING)
        assert read_running(data) == RUNNING
    assert read_running(data) is None


def test_addresses_with_tokens_are_private_and_gone_when_forgotten(data: DataDir) -> None:
    write_running(data, RUNNING)
    assert (data.run / "supervisor.json").stat().st_mode & 0o777 == 0o600

    forget_running(data)

    assert not (data.run / "supervisor.json").exists()
    forget_running(data)


def test_addresses_that_make_no_sense_are_none(data: DataDir) -> None:
    (data.run / "supervisor.json").write_text("{}")

    with data.locked():
        assert read_running(data) is None


@pytest.mark.parametrize("where", ["absent", "file/below"])
def test_a_folder_that_is_not_there_is_held_by_nobody(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").touch()

    assert not held(DataDir(tmp_path / where))
