import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from supervisor.cli.main import app
from supervisor.errors import NothingLogged, NotRunning
from supervisor.services.output import LogFile
from supervisor.settings.datadir import DataDir

ROOT = Path(__file__).parents[2]


def logged(data: Path, name: str, *lines: str) -> LogFile:
    file = LogFile(data / "logs" / f"{name}.log", limit=1000, files=3)
    file.write(lines)
    return file


def logs(data: Path, *arguments: str) -> list[str]:
    ended = CliRunner().invoke(app, ["logs", *arguments, "--data", str(data)], catch_exceptions=False)
    assert ended.exit_code == 0
    return ended.stdout.splitlines()


@contextmanager
def following(data: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    argv = [sys.executable, "-m", "supervisor", "logs", "-f", *arguments, "--data", str(data)]
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, cwd=ROOT, env=env, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_stopped_one_has_its_logs_still(tmp_path: Path) -> None:
    folder = DataDir(tmp_path).logs
    folder.mkdir()
    stamp = "2026-11-20T12:00:0{}.000Z"
    (folder / "engine.log").write_text(f"{stamp.format(1)} one\n{stamp.format(3)} three\n")
    (folder / "clawlama.log").write_text(f"{stamp.format(2)} two\n")

    assert [line.split(" ", 1)[1] for line in logs(tmp_path)] == [
        *("engine     │ one", "clawlama   │ two", "engine     │ three")
    ]
    assert len(logs(tmp_path, "-n", "2")) == 2
    assert [line.rpartition(" ")[2] for line in logs(tmp_path, "engine")] == ["one", "three"]


def test_programs_get_an_object_for_each_line(tmp_path: Path) -> None:
    logged(tmp_path, "engine", 'say "é"')

    (line,) = map(json.loads, logs(tmp_path, "--json"))

    assert (line["service"], line["line"]) == ("engine", 'say "é"')
    assert line["time"].endswith("Z")


def test_a_service_that_never_logged_is_named_with_those_that_did(tmp_path: Path) -> None:
    logged(tmp_path, "engine", "one")

    with pytest.raises(NothingLogged, match=r"opnclaw: .*these have: engine"):
        logs(tmp_path, "opnclaw")


def test_where_nothing_was_logged_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match="nothing was logged in"):
        logs(tmp_path)


def test_a_follower_sees_new_lines_through_rotation_and_leaves_quietly(tmp_path: Path) -> None:
    file = logged(tmp_path, "engine", "old")
    with following(tmp_path) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        seen = [process.stdout.readline()]
        for tens in range(10):
            file.write([f"line {tens}{n}" for n in range(10)])
            seen += [process.stdout.readline() for _ in range(10)]
        process.send_signal(signal.SIGINT)

        assert process.stdout.read() == process.stderr.read() == ""
        assert process.wait(10) == 130

    assert [line.partition("│ ")[2] for line in seen] == ["old\n", *(f"line {n:02}\n" for n in range(100))]
    assert len(list((tmp_path / "logs").iterdir())) == 3


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    file = logged(tmp_path, "engine", "old")
    with following(tmp_path) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        file.write(["to nobody"])

        assert process.wait(10) != 0
        assert process.stderr.read() == ""
