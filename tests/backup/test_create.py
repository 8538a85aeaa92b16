"""What is in an archive, while others write, delete and rename what it is made of."""

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from io import BytesIO
from pathlib import Path

import pytest

from supervisor.adapters.store import AdapterStore
from supervisor.backup.contents import Wanted, link_problem
from supervisor.backup.create import saving, write_archive
from supervisor.errors import AlreadyRunning, BackupError
from supervisor.settings.datadir import DataDir
from tests.adapters.versions import NAME, made
from tests.backup.folders import OPENCLAW_DATABASE, QUIET, archive, archived, database, picture, put_back, used, write

HAMMER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
connection.execute("PRAGMA journal_mode=WAL")
connection.execute("CREATE TABLE IF NOT EXISTS pairs (left_side INTEGER, right_side INTEGER)")
number = 0
while True:
    number += 1
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO pairs VALUES (?, 0)", (number,))
    connection.execute("UPDATE pairs SET right_side = ? WHERE left_side = ?", (number, number))
    connection.execute("COMMIT")
    if number == 1:
        print("ready", flush=True)
"""


@contextmanager
def hammered(*databases: Path) -> Iterator[None]:
    """Processes that write to each as fast as they can, in transactions that must not be torn."""
    writers = [
        subprocess.Popen([sys.executable, "-c", HAMMER, str(path), "pairs"], stdout=subprocess.PIPE)
        for path in databases
    ]
    try:
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
        yield
        assert all(writer.poll() is None for writer in writers)
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()


def test_what_comes_back_is_what_was_there_byte_for_byte(tmp_path: Path) -> None:
    data = used(tmp_path / "data")

    put_back(archive(data), tmp_path / "restored")

    assert picture(tmp_path / "restored") == picture(data.root)


def test_what_is_of_the_moment_or_made_again_stays_out(tmp_path: Path) -> None:
    data = used(tmp_path / "data")
    write(data.root / "ollama" / "blobs" / "sha256-1", "weights")
    write(data.root / "packs" / "cuda-13" / "lib.so", "large")
    write(data.adapters / NAME / ".staging" / "v0009" / "adapter.gguf", "half")
    write(data.lessons / "job" / "job.json", "{}")

    _, archive_made = archived(data)

    names = {entry.name for entry in archive_made.manifest.entries}
    assert {name.split("/")[0] for name in names} == {
        *("adapters", "clawlama.toml", "feedback", "journal.db", "openclaw", "secrets", "workspace"),
    }
    assert not [name for name in names if "staging" in name or "cache" in name or name.endswith(("-wal", "-shm"))]
    assert archive_made.manifest.about.packs == ("cuda-13",)


def test_models_and_logs_come_when_they_are_wanted(tmp_path: Path) -> None:
    data = used(tmp_path / "data")
    write(data.root / "ollama" / "blobs" / "sha256-1", "weights")
    everything = Wanted(models=True, logs=True)

    put_back(archive(data, everything), tmp_path / "restored")

    assert picture(tmp_path / "restored", everything) == picture(data.root, everything)
    assert (tmp_path / "restored" / "ollama" / "blobs" / "sha256-1").read_text() == "weights"


def test_databases_are_whole_while_others_write_to_them(tmp_path: Path) -> None:
    data = used(tmp_path / "data")
    databases = [data.journal, data.root / OPENCLAW_DATABASE]

    with hammered(*databases):
        archives = [archive(data) for _ in range(5)]

    for number, content in enumerate(archives):
        restored = tmp_path / f"restored{number}"
        put_back(content, restored)
        for path in databases:
            with closing(sqlite3.connect(restored / path.relative_to(data.root))) as connection:
                assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
                assert connection.execute("SELECT count(*) FROM pairs WHERE left_side != right_side").fetchone() == (0,)
                assert connection.execute("SELECT count(*) FROM pairs").fetchone()[0] > 0


def test_every_link_names_a_whole_version_while_versions_come_and_go(tmp_path: Path) -> None:
    data = used(tmp_path / "data")
    done = threading.Event()
    thread = threading.Thread(target=come_and_go, args=(AdapterStore(data.adapters), done))
    thread.start()
    try:
        archives = [archive(data) for _ in range(25)]
    finally:
        done.set()
        thread.join()

    for number, content in enumerate(archives):
        restored = AdapterStore(put_back_in(tmp_path / f"restored{number}", content))
        for version in restored.versions(NAME):
            assert version.gguf.is_file()
        restored.current(NAME)  # raises when the link names nothing


def come_and_go(store: AdapterStore, done: threading.Event) -> None:
    while not done.is_set():
        for _ in range(3):
            store.promote(NAME, made(store).manifest.version)
        store.delete(NAME)


def put_back_in(root: Path, content: bytes) -> Path:
    put_back(content, root)
    return root / "adapters"


def test_a_file_that_grows_is_as_long_as_it_was(tmp_path: Path) -> None:
    data = used(tmp_path / "data")
    large = data.workspace / "large.log"
    large.write_bytes(b"x" * 6_000_000)

    class Growing(BytesIO):
        def write(self, content: object, /) -> int:
            with large.open("ab") as file:
                file.write(b"more")
            return super().write(content)  # type: ignore[arg-type]

    sink = Growing()
    write_archive(data, sink, QUIET, lambda _done, _total: None)

    put_back(sink.getvalue(), tmp_path / "restored")
    assert set((tmp_path / "restored" / "workspace" / "large.log").read_bytes()) <= set(b"xmore")


def test_a_large_file_that_shrinks_meanwhile_is_filled_up_and_named(tmp_path: Path) -> None:
    data = used(tmp_path / "data")
    large = data.workspace / "large.bin"
    large.write_bytes(os.urandom(9_000_000))

    def shrink(done: int, _total: int) -> None:
        if done > 1_000_000 and large.stat().st_size > 5_000_000:
            os.truncate(large, 5_000_000)

    sink = BytesIO()
    archive_made = write_archive(data, sink, QUIET, shrink)

    assert (
        "4000000 bytes are zeros"
        in {one.name: one.text for one in archive_made.manifest.remarks}["workspace/large.bin"]
    )
    assert len(put_back(sink.getvalue(), tmp_path / "restored").manifest.entries) == len(archive_made.manifest.entries)


def test_what_cannot_be_kept_is_named(tmp_path: Path) -> None:
    data = used(tmp_path / "data")
    os.mkfifo(data.workspace / "pipe")
    (data.workspace / "out").symlink_to("/etc/passwd")
    (data.workspace / "up").symlink_to("../../other")
    write(data.workspace / "two\nlines", "x")
    Path(os.fsdecode(bytes(data.workspace) + b"/\xff")).write_text("x")
    (data.workspace / "no.sqlite").write_bytes(b"SQLite format 3\0" + b"\1" * 5000)

    content, archive_made = archived(data)

    told = {one.name: one.text for one in archive_made.manifest.remarks}
    assert told["workspace/pipe"] == "it is no file, folder or link that can be read"
    assert "out of the data folder" in told["workspace/out"]
    assert "out of the data folder" in told["workspace/up"]
    assert told["workspace/two\nlines"] == "its name has control characters"
    assert told["workspace/\\udcff"] == "its name is not UTF-8"
    assert "not as a database" in told["workspace/no.sqlite"]
    put_back(content, tmp_path / "restored")
    assert (tmp_path / "restored/workspace/no.sqlite").read_bytes() == (data.workspace / "no.sqlite").read_bytes()


@pytest.mark.parametrize(
    ("name", "target", "fine"),
    [
        ("a/link", "b", True),
        ("a/b/link", "../../c/d", True),
        ("a/link", ".", True),
        ("link", "a", True),
        ("a/link", "/etc", False),
        ("a/link", "../..", False),
        ("a/link", "..", False),
        ("link", ".", False),
        ("link", "../a", False),
        ("a/link", "b/../../..", False),
        ("a/link", "b/..", False),
        ("a/link", "", False),
        ("a/link", "b\x01", False),
    ],
)
def test_a_link_stays_inside(name: str, target: str, fine: bool) -> None:
    assert (link_problem(name, target) is None) == fine


def test_a_broken_journal_is_an_error(tmp_path: Path) -> None:
    data = used(tmp_path / "data")
    data.journal.write_bytes(b"SQLite format 3\0" + b"\1" * 5000)

    with pytest.raises(BackupError, match=r"the journal .* is broken"):
        archive(data)


def test_a_fresh_folder_can_be_saved_too(tmp_path: Path) -> None:
    data = DataDir(tmp_path / "data")
    data.prepare()

    content, archive_made = archived(data)

    assert archive_made.manifest.about.journal_schema is None
    assert put_back(content, tmp_path / "restored").aside is None


def test_no_folder_is_no_backup(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="there is no data folder"):
        archive(DataDir(tmp_path / "nowhere"))


def test_one_backup_at_a_time(tmp_path: Path) -> None:
    data = used(tmp_path / "data")

    with saving(data), pytest.raises(AlreadyRunning, match="another backup or restore"):
        archive(data)


def test_a_locked_database_is_waited_for(tmp_path: Path) -> None:
    data = used(tmp_path / "data")
    path = data.workspace / "own.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as connection:
        connection.execute("CREATE TABLE t (x)")
        connection.execute("BEGIN EXCLUSIVE")
        release = threading.Timer(0.4, connection.commit)
        release.start()
        _, archive_made = archived(data)
        release.join()

    assert "workspace/own.sqlite" in {entry.name for entry in archive_made.manifest.entries}
    assert archive_made.manifest.remarks == ()


def test_models_are_named(tmp_path: Path) -> None:
    data = used(tmp_path / "data")

    _, archive_made = archived(data)

    (model,) = archive_made.manifest.about.models
    assert (model.name, model.digest) == ("tiny-chat", "sha256:0")
    assert NAME in model.source


def test_the_log_of_a_killed_writer_is_in_the_copy_and_stays_where_it_is(tmp_path: Path) -> None:
    data = used(tmp_path / "data")
    path = data.root / OPENCLAW_DATABASE
    with hammered(path):
        pass
    log = path.with_name(f"{path.name}-wal")
    before = (log.stat().st_size, path.read_bytes())

    content = archive(data)

    assert (log.stat().st_size, path.read_bytes()) == before
    put_back(content, tmp_path / "restored")
    with closing(database(path)) as here, closing(database(tmp_path / "restored" / OPENCLAW_DATABASE)) as there:
        assert list(here.iterdump()) == list(there.iterdump())
