"""clawlama backup, verify and restore as people type them."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.backup.folders import mark_of, used

ROOT = Path(__file__).parents[2]


def clawlama(*arguments: str, stdin: bytes = b"", **environ: str) -> subprocess.CompletedProcess[bytes]:
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **environ}
    argv = [sys.executable, "-m", "supervisor", *arguments]
    return subprocess.run(argv, cwd=ROOT, env=env, input=stdin, capture_output=True, timeout=60, check=False)


def test_a_backup_goes_into_the_data_folder_private_to_its_owner(tmp_path: Path) -> None:
    data = used(tmp_path / "data")

    ended = clawlama("backup", CLAWLAMA_DATA=str(data.root))

    (archive,) = (data.root / "backups").iterdir()
    assert archive.stat().st_mode & 0o777 == 0o600
    assert ended.stdout == b""
    assert f"saved {archive}:" in ended.stderr.decode()
    assert "only you may read it (mode 0600)" in ended.stderr.decode()


def test_an_archive_travels_through_pipes(tmp_path: Path) -> None:
    data = used(tmp_path / "data")

    saved = clawlama("backup", "-", "--data", str(data.root), "--json")
    checked = clawlama("verify", "-", "--json", stdin=saved.stdout)
    restored = clawlama("restore", "-", "--into", str(tmp_path / "new"), "--json", stdin=saved.stdout)

    assert json.loads(saved.stderr)["size"] == len(saved.stdout)
    assert json.loads(checked.stdout)["files"] == json.loads(saved.stderr)["files"]
    assert json.loads(restored.stdout)["aside"] is None
    assert mark_of(tmp_path / "new") == "first"


def test_an_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    data = used(tmp_path / "data")
    (tmp_path / "mine.tar.zst").write_text("mine")

    ended = clawlama("backup", str(tmp_path / "mine.tar.zst"), "--data", str(data.root))

    assert ended.returncode == 1
    assert b"exists already and is never overwritten" in ended.stderr
    assert (tmp_path / "mine.tar.zst").read_text() == "mine"


def test_broken_settings_keep_nobody_from_restoring_good_ones(tmp_path: Path) -> None:
    data = used(tmp_path / "data")
    saved = clawlama("backup", "-", "--data", str(data.root))
    (data.root / "clawlama.toml").write_text("not = [toml")

    ended = clawlama("restore", "-", "--replace", stdin=saved.stdout, CLAWLAMA_DATA=str(data.root))

    assert ended.returncode == 0
    assert f"what was there before is in {data.root}/replaced-" in ended.stderr.decode().replace("\n", "")
    assert (data.root / "clawlama.toml").read_text() == "lean = 'on'"


def test_a_damaged_archive_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.tar.zst").write_bytes(b"x" * 1000)

    ended = clawlama("verify", str(tmp_path / "a.tar.zst"))

    assert (ended.returncode, ended.stdout) == (1, b"")
    assert ended.stderr == (b"clawlama: the archive's end is missing: it was cut short, or clawlama did not write it\n")


def test_the_script_saves_and_restores_a_folder(tmp_path: Path) -> None:
    data = used(tmp_path / "data")
    env = {**os.environ, "CLAWLAMA": str(Path(sys.executable).with_name("clawlama"))}

    archive = tmp_path / "a.tar.zst"
    subprocess.run([ROOT / "scripts/backup.sh", data.root, archive], env=env, check=True, timeout=60)
    subprocess.run([ROOT / "scripts/restore.sh", archive, tmp_path / "new"], env=env, check=True, timeout=60)

    assert mark_of(tmp_path / "new") == "first"
    assert not list(tmp_path.glob(".*.part"))
