"""The connection under the journal: SQLite with each commit on the disk before it is acknowledged, or PostgreSQL."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from sqlalchemy import Connection, event
from sqlalchemy.dialects.sqlite.aiosqlite import AsyncAdapt_aiosqlite_connection
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from supervisor.errors import JournalError

DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg", "postgres": "postgresql+asyncpg"}
PRAGMAS = ("busy_timeout=10000", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON")
CONNECTIONS = 3  # one writes, the others read meanwhile


class Database:
    """Short transactions, one writer at a time. A cancellation tears none: it is seen after the end."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.name = engine.url.render_as_string(hide_password=True)
        self._engine = engine
        self._writing = engine.execution_options(writes=True)
        self._turn = anyio.Lock()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A consistent view. Raises JournalError when the database fails."""
        with anyio.CancelScope(shield=True):
            try:
                async with self._engine.begin() as connection:
                    yield connection
            except (SQLAlchemyError, OSError) as exc:
                raise self._broken(exc) from exc

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """All or nothing, durable once the block has ended. Raises JournalError when the database fails."""
        async with self._turn:
            with anyio.CancelScope(shield=True):
                try:
                    async with self._writing.begin() as connection:
                        yield connection
                except (SQLAlchemyError, OSError) as exc:
                    raise self._broken(exc) from exc

    def _broken(self, exc: Exception) -> JournalError:
        cause = exc.__cause__ or exc
        return JournalError(f"journal {self.name}: {cause}; check that its disk has space and is writable")


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Database]:
    """A database for ``sqlite:///FILE`` or ``postgresql://…``; its connections are closed when the block ends."""
    engine = _engine(_with_driver(url))
    try:
        yield Database(engine)
    finally:
        with anyio.move_on_after(5, shield=True):
            await engine.dispose()


def _with_driver(text: str) -> URL:
    try:
        url = make_url(text)
    except ArgumentError as exc:
        raise JournalError(
            f"journal address {text!r} is no database URL; one looks like sqlite:////data/journal.db"
        ) from exc
    backend = url.drivername.partition("+")[0]
    if backend not in DRIVERS:
        raise JournalError(f"journal {url}: {backend!r} is not a database we know; use sqlite or postgresql")
    return url.set(drivername=DRIVERS.get(url.drivername, url.drivername))


def _engine(url: URL) -> AsyncEngine:
    if url.drivername.startswith("sqlite"):
        _private_file(url)
    try:
        engine = create_async_engine(url, pool_size=CONNECTIONS, max_overflow=0)
    except ModuleNotFoundError as exc:
        raise JournalError(f"journal {url}: the driver {exc.name!r} is missing; install it with pip") from exc
    if engine.dialect.name == "sqlite":
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
        event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def _private_file(url: URL) -> None:
    """Make the file ourselves, readable by its owner alone: SQLite gives its side files the same mode."""
    path = Path(url.database or "")
    if not url.database or url.database == ":memory:":
        raise JournalError(
            f"journal {url}: a journal needs a file, or nothing would last; use sqlite:////data/journal.db"
        )
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as exc:
        raise JournalError(f"journal file {path}: {exc.strerror}; make its folder exist and be writable") from exc


def _prepare_sqlite(connection: AsyncAdapt_aiosqlite_connection, _entry: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # BEGIN is ours, so that schema changes are transactional too
    cursor = connection.cursor()
    for pragma in PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
