"""A consistent copy of an SQLite database that others write to meanwhile, by SQLite's own backup."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import IO

from supervisor.errors import BackupError

MAGIC = b"SQLite format 3\0"
SIDE_FILES = ("-wal", "-shm", "-journal")
PATIENCE, PAUSE = 30.0, 0.25  # seconds: in all, and between two looks, while somebody locks everybody out
LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


class NoDatabase(BackupError):
    """It begins like one, but SQLite cannot read it."""


def is_database(file: IO[bytes]) -> bool:
    """By its first bytes; leaves the file at its start."""
    found = file.read(len(MAGIC)) == MAGIC
    file.seek(0)
    return found


def is_side_file(path: Path) -> bool:
    """Whether it goes with a database beside it: what it holds is in that one's copy. OSError as ``open`` raises it."""
    for ending in SIDE_FILES:
        base = path.with_name(path.name.removesuffix(ending))
        if path.name.endswith(ending) and base.is_file():
            with base.open("rb") as file:
                return is_database(file)
    return False


def copy_database(path: Path, to: Path) -> None:
    """One moment of it, with all that was committed before, as a file without side files.

    Raises FileNotFoundError when it went meanwhile, NoDatabase when it is broken, BackupError when it cannot be copied.
    """
    path.stat()
    to.unlink(missing_ok=True)
    try:
        with closing(_opened(path)) as source, closing(sqlite3.connect(to, isolation_level=None)) as copy:
            copy.execute("PRAGMA synchronous=OFF")
            copy.execute("PRAGMA journal_mode=OFF")
            # One read transaction: writers go on, we see none of it.
            source.backup(copy, pages=-1, sleep=PAUSE, progress=_patience(path))
    except sqlite3.OperationalError as exc:
        path.stat()
        raise BackupError(
            f"database {path} cannot be copied: {exc}; check that its disk has space and that it is readable"
        ) from exc
    except sqlite3.DatabaseError as exc:
        raise NoDatabase(str(exc)) from exc


def _patience(path: Path) -> Callable[[int, int, int], None]:
    waits = 0

    def look(status: int, _remaining: int, _pages: int) -> None:
        nonlocal waits
        waits += status in LOCKED
        if waits * PAUSE > PATIENCE:
            raise BackupError(f"database {path} has been locked for {PATIENCE:.0f} s; end what holds it")

    return look


def journal_schema(path: Path) -> str | None:
    """The Alembic revision of a journal that nobody else has open; None when it has none yet.

    Leaves no side files. BackupError when it cannot be read.
    """
    try:
        with closing(_opened(path, "immutable=1")) as connection:
            if not _rows(connection, "SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'"):
                return None
            return next((str(row[0]) for row in _rows(connection, "SELECT version_num FROM alembic_version")), None)
    except sqlite3.Error as exc:
        raise BackupError(f"journal {path} cannot be read: {exc}; restore an older backup") from exc


def _rows(connection: sqlite3.Connection, query: str) -> list[tuple[object, ...]]:
    return connection.execute(query).fetchall()


def _opened(path: Path, how: str = "mode=ro") -> sqlite3.Connection:
    """For reading only, so that closing it never moves the write-ahead log of somebody who was killed."""
    uri = f"{path.absolute().as_uri()}?{how}"
    return sqlite3.connect(uri, uri=True, timeout=PAUSE, isolation_level=None)
