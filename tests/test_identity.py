"""Who we run as. What needs root runs in a child of its own, which loses it for good."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.errors import SettingsError
from supervisor.identity import HIGHEST, Identity, refusal, settle, wanted

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
STATUS = "import os; print(os.getresuid(), os.getresgid(), os.getgroups(), os.environ['HOME'])"
BECOME = f"""
import sys
from pathlib import Path
from supervisor.identity import settle
from supervisor.settings.sources import move_in
from supervisor.identity import wanted
folder = Path(sys.argv[1])
if settle(wanted(sys.argv[2], sys.argv[3]), folder, print, thorough=sys.argv[4] == "thorough"):
    move_in(folder)
{STATUS}
try:
    os.setuid(0)
except PermissionError:
    print("for good")
"""


def child(folder: Path, puid: str = "4321", pgid: str = "8765", *, thorough: bool = False) -> str:
    words = [str(folder), puid, pgid, "thorough" if thorough else "quick"]
    folder.parent.chmod(0o755)  # pytest's folders are private
    return subprocess.run([sys.executable, "-c", BECOME, *words], capture_output=True, text=True, check=True).stdout


def owner(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_uid, found.st_gid


@pytest.mark.parametrize(
    ("puid", "pgid", "expected"),
    [
        ("", "", None),
        ("1000", "", Identity(1000, 1000)),
        ("1000", "100", Identity(1000, 100)),
        (str(HIGHEST), "0", Identity(HIGHEST, 0)),
    ],
)
def test_puid_and_pgid_are_numbers(puid: str, pgid: str, expected: Identity | None) -> None:
    assert wanted(puid, pgid) == expected


@pytest.mark.parametrize(
    ("puid", "pgid", "named"),
    [
        ("me", "1", "PUID=me"),
        ("-1", "", "PUID=-1"),
        ("1000", "users", "PGID=users"),
        (str(2**32 - 1), "1", "PUID=4294967295"),
        ("\u0661", "1", "PUID="),
        ("1.5", "", "PUID=1.5"),
        ("", "1000", "PGID=1000 is set without PUID"),
    ],
)
def test_what_is_no_number_is_named(puid: str, pgid: str, named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        wanted(puid, pgid)


def test_whoever_is_not_root_stays_who_they_are(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        assert not settle(None, tmp_path / "data", print, thorough=True)
        assert not settle(Identity(0, 0), tmp_path / "data", print, thorough=True)
    else:
        assert not settle(Identity(1, 1), tmp_path / "data", print, thorough=True)

    assert not (tmp_path / "data").exists()


@as_root
def test_root_becomes_the_user_for_good_and_the_folder_is_theirs(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "secrets").mkdir(parents=True, mode=0o700)
    (data / "secrets" / "token").write_text("x")

    said = child(data)

    assert said.splitlines() == [f"(4321, 4321, 4321) (8765, 8765, 8765) [] {data}", "for good"]
    assert {owner(path) for path in (data, data / "secrets", data / "secrets" / "token")} == {(4321, 8765)}


@as_root
def test_a_link_is_given_away_and_never_where_it_leads(tmp_path: Path) -> None:
    data, outside = tmp_path / "data", tmp_path / "outside"
    (outside / "deep").mkdir(parents=True)
    (outside / "deep" / "file").write_text("not yours")
    data.mkdir()
    (data / "folder").symlink_to(outside)
    (data / "file").symlink_to(outside / "deep" / "file")

    child(data)

    assert owner(data / "folder") == owner(data / "file") == (4321, 8765)
    assert {owner(path) for path in (outside, outside / "deep", outside / "deep" / "file")} == {(0, 0)}


@as_root
def test_a_folder_that_is_right_is_looked_through_by_a_start_only(tmp_path: Path) -> None:
    data = tmp_path / "data"
    child(data)
    (data / "copied in later").write_text("as root")

    child(data)
    assert owner(data / "copied in later") == (0, 0)

    child(data, thorough=True)
    assert owner(data / "copied in later") == (4321, 8765)


@as_root
def test_what_was_cut_short_goes_on(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "a" / "b").mkdir(parents=True)
    os.chown(data / "a" / "b", 4321, 8765)

    child(data)

    assert {owner(path) for path in (data, data / "a", data / "a" / "b")} == {(4321, 8765)}


@as_root
def test_without_the_right_to_change_users_the_message_names_what_is_missing(tmp_path: Path) -> None:
    powerless = """
import os, sys
from pathlib import Path
from supervisor.errors import MachineError
from supervisor.identity import become, Identity
os.setresuid(4321, 4321, 4321)
try:
    become(Identity(1000, 1000))
except MachineError as exc:
    print(exc)
"""
    said = subprocess.run([sys.executable, "-c", powerless], capture_output=True, text=True, check=True).stdout

    assert said.startswith("cannot become 1000:1000 (PUID:PGID)")
    assert "--cap-add SETUID" in said


def test_the_refusal_names_both_sides_and_both_remedies(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)

    text = refusal(tmp_path)

    uid, gid = os.geteuid(), os.getegid()
    assert f"{tmp_path} belongs to {uid}:{gid} (mode 750)" in text
    assert f"we run as {uid}:{gid}" in text
    assert f"sudo chown -R {uid}:{gid} FOLDER" in text
    assert f"--user 0 -e PUID={uid} -e PGID={gid}" in text
