import random
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from supervisor.errors import JournalError
from supervisor.journal.database import connected
from supervisor.journal.journal import open_journal
from supervisor.journal.schema import MIGRATIONS, migrate
from supervisor.journal.tables import HEAD
from tests.journal.samples import completion, feedback, taught

pytestmark = pytest.mark.anyio

WRITER = """
import anyio, sys
from supervisor.journal.journal import open_journal
from tests.journal.samples import completion, taught

async def main(url):
    async with open_journal(url) as journal, anyio.create_task_group() as tg:
        for _ in range(4):
            tg.start_soon(write, journal)

async def write(journal):
    while True:
        written = completion()
        await journal.add_completion(written)
        sys.stdout.write(written.id + "\\n")
        lesson = await taught(journal)
        sys.stdout.write(lesson.id + "\\n")
        sys.stdout.flush()

anyio.run(main, sys.argv[1])
"""


async def test_whatever_was_acknowledged_survives_a_kill_at_any_moment(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/journal.db"

    acknowledged = {entry for _ in range(20) for entry in written_until_killed(url)}

    async with open_journal(url) as journal:
        kept = {one.id for one in await journal.completions(10**6)} | {one.id for one in await journal.lessons(10**6)}
        assert len(acknowledged) > 200
        assert acknowledged <= kept
        for lesson in await journal.lessons(10**6):
            assert len(await journal.feedback_of(lesson.id)) == lesson.feedback_count == 1


def written_until_killed(url: str) -> set[str]:
    """Ids that a writing process printed before it was killed without warning."""
    with subprocess.Popen([sys.executable, "-c", WRITER, url], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout
        first = [writer.stdout.readline() for _ in range(random.randint(1, 60))]
        writer.send_signal(signal.SIGKILL)
        return {line.strip() for line in [*first, *writer.stdout] if line.endswith("\n")}


async def test_an_acknowledged_entry_is_synced_to_the_disk(tmp_path: Path) -> None:
    async with connected(f"sqlite:///{tmp_path}/journal.db") as database, database.reading() as connection:
        answers = [
            (await connection.exec_driver_sql(f"PRAGMA {name}")).scalar_one()
            for name in ("synchronous", "journal_mode", "foreign_keys")
        ]

    assert answers == [2, "wal", 1]  # 2: FULL


async def test_a_journal_keeps_its_entries_when_opened_again(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/journal.db"
    async with open_journal(url) as journal:
        lesson = await taught(journal, feedback("no emojis"))

    async with open_journal(url) as journal:
        assert await journal.lesson(lesson.id) == lesson


async def test_the_journal_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    async with open_journal(f"sqlite:///{tmp_path}/journal.db") as journal:
        await journal.add_completion(completion())

        assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("journal.db*")} == {0o600}


async def test_a_journal_from_the_future_is_refused_untouched(tmp_path: Path) -> None:
    file = tmp_path / "journal.db"
    async with open_journal(f"sqlite:///{file}"):
        pass
    with closing(sqlite3.connect(file, isolation_level=None)) as raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")

    with pytest.raises(JournalError, match=f"schema 9999, this clawlama knows up to {HEAD}"):
        async with open_journal(f"sqlite:///{file}"):
            pass


async def test_a_change_of_schema_that_fails_halfway_leaves_the_old_one(tmp_path: Path) -> None:
    file = tmp_path / "journal.db"
    with closing(sqlite3.connect(file)) as raw:
        raw.execute("CREATE TABLE feedback (id TEXT)")

    with pytest.raises(JournalError, match="feedback already exists"):
        async with open_journal(f"sqlite:///{file}"):
            pass

    with closing(sqlite3.connect(file)) as raw:
        assert raw.execute("SELECT name FROM sqlite_master").fetchall() == [("feedback",)]


async def test_the_migrations_lead_to_the_tables_of_a_new_journal(tmp_path: Path) -> None:
    new, migrated = tmp_path / "new.db", tmp_path / "migrated.db"
    async with open_journal(f"sqlite:///{new}"):
        pass
    async with connected(f"sqlite:///{migrated}") as database, database.writing() as connection:
        await connection.run_sync(migrate, None)

    async with open_journal(f"sqlite:///{migrated}") as journal:
        await taught(journal)
    assert statements(migrated) == statements(new)
    assert max(MIGRATIONS.glob("versions/r*.py")).name.startswith(f"r{HEAD}")


def statements(file: Path) -> dict[str, str]:
    """What made each table and index, white space aside."""
    with closing(sqlite3.connect(file)) as raw:
        rows = raw.execute("SELECT name, sql FROM sqlite_master WHERE sql NOT NULL AND name <> 'alembic_version'")
        return {name: " ".join(sql.split()) for name, sql in rows}


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite:///{tmp}/missing/journal.db", "make its folder exist"),
        ("sqlite://", "needs a file"),
        ("not a url", "is no database URL"),
        ("oracle://there", "not a database we know"),
    ],
)
async def test_a_journal_that_cannot_be_opened_says_why(tmp_path: Path, url: str, message: str) -> None:
    with pytest.raises(JournalError, match=message):
        async with open_journal(url.format(tmp=tmp_path)):
            pass


async def test_a_file_that_is_no_journal_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "journal.db"
    file.write_text("these are my holiday notes" * 100)

    with pytest.raises(JournalError, match="not a database"):
        async with open_journal(f"sqlite:///{file}"):
            pass


async def test_a_new_journal_opens_without_alembic(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/journal.db"
    code = (
        "import anyio, sys; from supervisor.journal.journal import open_journal\n"
        "async def main():\n"
        f"    async with open_journal({url!r}): sys.exit('alembic' in sys.modules)\n"
        "anyio.run(main)"
    )

    with anyio.fail_after(30):
        assert (await anyio.run_process([sys.executable, "-c", code], check=False)).returncode == 0
