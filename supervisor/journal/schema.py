"""Makes a journal's tables, or brings older ones up to date, when it is opened: in one transaction.

The tables of a new journal are made as they are in ``tables``; a test holds that the migrations lead to the same. So
Alembic, which costs 11 MB of memory, is loaded on the rare start that changes a schema and not on every one.
"""

from pathlib import Path

from sqlalchemy import Column, Connection, MetaData, String, Table, insert, inspect, select

from supervisor.errors import JournalError
from supervisor.journal.tables import HEAD, metadata

MIGRATIONS = Path(__file__).parent / "migrations"

alembic_version = Table(
    "alembic_version", MetaData(), Column("version_num", String(32), primary_key=True, nullable=False)
)


def bring_up_to_date(connection: Connection) -> None:
    """Raises JournalError when the journal was written by a newer clawlama."""
    revision = current_revision(connection)
    if revision is None:
        metadata.create_all(connection, checkfirst=False)
        alembic_version.create(connection)
        connection.execute(insert(alembic_version).values(version_num=HEAD))
    elif revision != HEAD:
        migrate(connection, revision)


def current_revision(connection: Connection) -> str | None:
    """The revision the tables have; None for an empty database."""
    if not inspect(connection).has_table(alembic_version.name):
        return None
    return connection.execute(select(alembic_version.c.version_num)).scalar_one_or_none()


def migrate(connection: Connection, revision: str | None) -> None:
    """Run the revisions after ``revision``; None: all of them."""
    from alembic.migration import MigrationContext  # noqa: PLC0415 - see above
    from alembic.operations import Operations  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    scripts = ScriptDirectory(str(MIGRATIONS))
    known = {script.revision for script in scripts.walk_revisions()}
    if revision is not None and revision not in known:
        raise JournalError(
            f"the journal has schema {revision}, this clawlama knows up to {HEAD}: it was written by a newer one; "
            "install that version again, or restore a backup"
        )
    context = MigrationContext.configure(connection)
    for script in reversed(list(scripts.iterate_revisions(HEAD, revision or "base"))):
        with Operations.context(context):
            script.module.upgrade()
        context.stamp(scripts, script.revision)
