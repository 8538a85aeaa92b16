import hashlib
import json
import os
import socket
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from supervisor.gateway.command import OpenClaw, Tokens
from supervisor.gateway.find import Runtime
from supervisor.gateway.leftovers import release_dead_lease, remove_lock_files

TABLE = """CREATE TABLE state_leases (scope TEXT NOT NULL, lease_key TEXT NOT NULL, owner TEXT NOT NULL,
    expires_at INTEGER, heartbeat_at INTEGER, payload_json TEXT, created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL, PRIMARY KEY (scope, lease_key)) STRICT"""


@pytest.fixture
def openclaw(tmp_path: Path) -> OpenClaw:
    runtime = Runtime(Path("/node"), "24.21.0", Path("/openclaw.mjs"), "2026.9.6")
    return OpenClaw(runtime, tmp_path / "openclaw", tmp_path / "workspace", Tokens("g", "a"), {})


def database(openclaw: OpenClaw) -> Path:
    path = openclaw.state / "state" / "openclaw.sqlite"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def leave_lease(openclaw: OpenClaw, payload: str) -> None:
    with closing(sqlite3.connect(database(openclaw))) as connection, connection:
        connection.execute(TABLE)
        row = ("gateway-owner", "global", "someone", 2, 1, payload, 1, 1)
        connection.execute("INSERT INTO state_leases VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        connection.execute("INSERT INTO state_leases VALUES ('other', 'key', 'someone', 2, 1, '{}', 1, 1)")


def held_by(host: str) -> str:
    return json.dumps({"owner": {"pid": 12, "host": host, "startedAt": 1}, "port": 18789, "mode": "foreground"})


def leases(openclaw: OpenClaw) -> list[str]:
    with closing(sqlite3.connect(database(openclaw))) as connection:
        return [row[0] for row in connection.execute("SELECT scope FROM state_leases ORDER BY scope")]


def test_the_lease_of_another_host_name_goes_and_nothing_else(openclaw: OpenClaw) -> None:
    leave_lease(openclaw, held_by("old-container"))

    assert release_dead_lease(openclaw, host="new-container")
    assert leases(openclaw) == ["other"]


def test_a_lease_of_this_host_is_left_to_openclaw(openclaw: OpenClaw) -> None:
    leave_lease(openclaw, held_by(socket.gethostname()))

    assert not release_dead_lease(openclaw)
    assert leases(openclaw) == ["gateway-owner", "other"]


@pytest.mark.parametrize("payload", ["not json", "{}", "[]", '{"owner": null}'])
def test_a_lease_that_we_do_not_understand_is_left_alone(openclaw: OpenClaw, payload: str) -> None:
    leave_lease(openclaw, payload)

    assert not release_dead_lease(openclaw)


def test_a_first_start_has_no_lease(openclaw: OpenClaw) -> None:
    assert not release_dead_lease(openclaw)


@pytest.mark.parametrize("content", [b"", b"this is no database, and long enough to be sure of that" * 40])
def test_a_database_that_we_cannot_read_does_not_keep_us_from_starting(openclaw: OpenClaw, content: bytes) -> None:
    database(openclaw).write_bytes(content)

    assert not release_dead_lease(openclaw)


def lock_file(below: Path, database: Path) -> Path:
    digest = hashlib.sha256(str(database.resolve()).encode()).hexdigest()[:8]
    path = below / f"openclaw-state-locks-{os.getuid()}" / f"state-handles.{digest}.lock.sqlite"
    path.parent.mkdir(exist_ok=True)
    path.touch()
    return path


def test_only_the_lock_files_of_our_databases_go(openclaw: OpenClaw, tmp_path: Path) -> None:
    database(openclaw).touch()
    ours = lock_file(tmp_path, database(openclaw))
    foreign = lock_file(tmp_path, tmp_path / "someone-else.sqlite")

    assert remove_lock_files(openclaw, below=tmp_path) == (ours,)
    assert foreign.exists()


def test_folders_go_when_they_are_empty(openclaw: OpenClaw, tmp_path: Path) -> None:
    database(openclaw).touch()
    ours = lock_file(tmp_path / "", database(openclaw))

    remove_lock_files(openclaw, below=tmp_path)

    assert not ours.parent.exists()
