"""Brings an older journal up to date when it is opened, in one transaction; refuses one from the future."""

from pathlib import Path

from sqlalchemy import Connection, inspect, select
from sqlalchemy.sql import column, table

from supervisor.errors import JournalError
from supervisor.journal.tables import HEAD

MIGRATIONS = Path(__file__).parent / "migrations"


def bring_up_to_date(connection: Connection) -> None:
    """Run the revisions this journal lacks. Raises JournalError when it was written by a newer clawlama."""
    revision = current_revision(connection)
    if revision != HEAD:
        _migrate(connection, revision)


def current_revision(connection: Connection) -> str | None:
    """The revision the tables have; None for an empty database."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    versions = table("alembic_version", column("version_num"))
    return connection.execute(select(versions.c.version_num)).scalar_one_or_none()


def _migrate(connection: Connection, revision: str | None) -> None:
    # Alembic costs 10 MB of memory: loaded on the rare start that changes the schema, not on every one.
    from alembic.migration import MigrationContext  # noqa: PLC0415
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
