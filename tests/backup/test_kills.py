"""kill -9 at every step that touches the disk, of a backup and of a restore: the old or the new, never a mixture.

A forked process kills itself at its Nth audited call (open to write, rename, mkdir, ...), for every N until one run
comes through.
"""

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from supervisor.backup.restore import restore, verify
from supervisor.backup.save import save
from supervisor.backup.swap import finish_restore
from supervisor.settings.datadir import DataDir
from tests.backup.folders import QUIET, archive, mark_of, picture, used

TOUCHES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "sqlite3")


def killed_at(last: int, work: Callable[[], object]) -> bool:
    """Do it in a process that kills itself at this step; False when it came through before."""
    if (pid := os.fork()) == 0:
        failed = True
        try:
            sys.addaudithook(Death(last))
            work()
            failed = False
        finally:
            os._exit(failed)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in {0, -signal.SIGKILL}
    return code != 0


class Death:
    def __init__(self, last: int) -> None:
        self._left = last

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if event == "open":
            how = arguments[2]
            if not isinstance(how, int) or not how & (os.O_WRONLY | os.O_RDWR):
                return
        elif not event.startswith(TOUCHES):
            return
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def deaths(work: Callable[[], object]) -> Iterator[bool]:
    """One more step each time, ending with the run that came through: whether it died."""
    for step in range(1, 100_000):
        died = killed_at(step, work)
        yield died
        if not died:
            return


def test_a_restore_that_is_killed_anywhere_leaves_the_old_or_the_new_whole(tmp_path: Path) -> None:
    (tmp_path / "a.tar.zst").write_bytes(archive(used(tmp_path / "first")))
    kept = used(tmp_path / "kept", "second")
    data = DataDir(tmp_path / "data")
    shutil.copytree(kept.root, data.root, symlinks=True)
    seen: list[str] = []

    for _ in deaths(lambda: put_back(tmp_path / "a.tar.zst", data)):
        finish_restore(data.root)
        seen.append(str(mark_of(data.root)))
        if seen[-1] == "first":
            (aside,) = data.root.glob("replaced-*")
            assert mark_of(aside) == "second"
            shutil.rmtree(data.root)
            shutil.copytree(kept.root, data.root, symlinks=True)

    assert seen == sorted(seen, reverse=True)  # "second" up to one step, "first" from it on
    assert {"first", "second"} == set(seen)


def put_back(path: Path, data: DataDir) -> None:
    with path.open("rb") as file:
        restore(file, data, lambda _read: None, replace=True)


def test_a_swap_that_is_killed_again_and_again_comes_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "a.tar.zst").write_bytes(archive(used(tmp_path / "first")))
    data = used(tmp_path / "data", "second")
    killed = iter(deaths(lambda: put_back(tmp_path / "a.tar.zst", data)))
    while not (data.root / ".restore" / "swap.json").exists():
        assert next(killed)

    one_more = 5  # steps: run/, its lock, the folder for the old data, one name moved, and death
    rounds = next(number for number in range(100) if not killed_at(one_more, lambda: finish_restore(data.root)))

    assert rounds > 3
    assert mark_of(data.root) == "first"


def test_a_backup_that_is_killed_anywhere_leaves_no_archive_or_a_whole_one_and_the_data_alone(tmp_path: Path) -> None:
    data = used(tmp_path / "data")
    before = picture(data.root)
    target = tmp_path / "backups" / "a.tar.zst"

    for died in deaths(lambda: save(data, target, QUIET, lambda _done, _total: None, home=target.parent)):
        if target.exists():
            with target.open("rb") as file:
                verify(file, lambda _read: None)
            if died:
                target.unlink()

    assert [path.name for path in target.parent.iterdir()] == ["a.tar.zst"]  # what the dead left is gone
    assert sorted(path.name for path in data.run.iterdir()) == ["backup.lock", "supervisor.json"]
    assert picture(data.root) == before


@pytest.mark.parametrize("step", [1, 5, 20])
def test_the_process_really_dies(step: int, tmp_path: Path) -> None:
    data = used(tmp_path / "data")

    assert killed_at(step, lambda: save(data, None, QUIET, lambda _done, _total: None, home=tmp_path))
