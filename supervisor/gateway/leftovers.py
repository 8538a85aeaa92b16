"""What a gateway leaves behind: a lease that locks its successor out, and lock files outside its folder.

Only for whoever holds the data folder exclusively while no gateway runs in it.
"""

import hashlib
import json
import os
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import structlog

from supervisor.gateway.command import OpenClaw

LEASE = ("gateway-owner", "global")  # OpenClaw's key of the one lease that a starting gateway must win
LOCKS = Path("/tmp")  # noqa: S108 - OpenClaw's own choice, which no setting of it changes

log: structlog.stdlib.BoundLogger = structlog.get_logger()


def release_dead_lease(openclaw: OpenClaw, *, host: str | None = None) -> bool:
    """Remove the lease of a gateway that died under another host name; whether there was one.

    OpenClaw reclaims a dead owner at once, but only on the same host name. A new container has a new one,
    and would wait five minutes for a process that cannot exist any more.
    """
    database = openclaw.state / "state" / "openclaw.sqlite"
    if not database.is_file():
        return False
    try:
        with closing(sqlite3.connect(database, timeout=5, isolation_level=None)) as connection:
            owner = _lease_owner(connection)
            if owner is None or owner[1] == (host or socket.gethostname()):
                return False
            connection.execute(
                "DELETE FROM state_leases WHERE scope = ? AND lease_key = ? AND owner = ?", (*LEASE, owner[0])
            )
    except sqlite3.Error as exc:
        log.warning("OpenClaw's lease could not be looked at; its start may take five minutes", reason=str(exc))
        return False
    log.info("released the lease of a gateway that died under another host name", host=owner[1])
    return True


def _lease_owner(connection: sqlite3.Connection) -> tuple[str, str] | None:
    """The lease's owner and that owner's host; None when there is no lease, or none that we understand."""
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'state_leases'").fetchone() is None:
        return None
    query = "SELECT owner, payload_json FROM state_leases WHERE scope = ? AND lease_key = ?"
    row = connection.execute(query, LEASE).fetchone()
    if row is None:
        return None
    try:
        return str(row[0]), str(json.loads(row[1])["owner"]["host"])
    except (TypeError, KeyError, json.JSONDecodeError):
        return None


def remove_lock_files(openclaw: OpenClaw, *, below: Path = LOCKS) -> tuple[Path, ...]:
    """Delete the empty lock files that OpenClaw keeps for our databases below ``/tmp``; returns what went.

    Other installations keep theirs there too, so only the names made from our paths are touched, and the
    folders only when nothing is left in them.
    """
    folder = below / f"openclaw-state-locks-{os.getuid()}"
    removed = tuple(path for path in _lock_files(openclaw.state, folder) if _unlink(path))
    for empty in (folder, below / "openclaw"):
        with suppress(OSError):  # not empty, not ours, or not there: all of them mean "leave it"
            empty.rmdir()
    return removed


def _lock_files(state: Path, folder: Path) -> Iterator[Path]:
    for database in state.resolve().rglob("*.sqlite"):
        digest = hashlib.sha256(str(database).encode()).hexdigest()[:8]
        yield from folder.glob(f"*.{digest}.lock.sqlite*")


def _unlink(path: Path) -> bool:
    try:
        path.unlink()
    except OSError:
        return False
    return True
