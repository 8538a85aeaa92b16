import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from supervisor.adapters.store import AdapterStore
from supervisor.cli.main import COMMANDS, app
from supervisor.settings.datadir import DataDir
from tests.adapters.versions import NAME, made

ROOT = Path(__file__).parents[2]


def clawlama(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **environ}
    argv = [sys.executable, "-m", "supervisor", *arguments]
    return subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)


def test_help_names_every_command() -> None:
    ended = CliRunner().invoke(app, ["--help"])

    assert ended.exit_code == 0
    assert [name for name in COMMANDS if f" {name} " not in ended.stdout] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    ended = CliRunner().invoke(app, [command, "--help"])

    assert ended.exit_code == 0
    assert f"{command} [OPTIONS]" in ended.stdout


def test_a_misspelt_command_is_answered_with_the_right_one() -> None:
    ended = clawlama("statsu")

    assert ended.returncode == 2
    assert "Did you mean" in ended.stderr
    assert "'status'" in ended.stderr


def test_a_command_loads_only_what_it_needs() -> None:
    look = "import sys; from supervisor.cli.main import app; app(['status', '--help'], standalone_mode=False); "
    argv = [sys.executable, "-c", look + "print(*sys.modules)"]
    ended = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)

    assert "supervisor.cli.status" in ended.stdout
    assert "supervisor.boot" not in ended.stdout


def test_a_command_that_needs_a_running_one_says_how_to_start_it(tmp_path: Path) -> None:
    ended = clawlama("status", "--data", str(tmp_path / "data"))

    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == f"clawlama: no clawlama is running on {tmp_path}/data; start one with: clawlama up\n"
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_setting_is_one_line(tmp_path: Path) -> None:
    ended = clawlama("status", CLAWLAMA_DATA=str(tmp_path), CLAWLAMA_LEAN="[perhaps]")

    assert ended.returncode == 1
    assert ended.stderr == "clawlama: CLAWLAMA_LEAN='[perhaps]': Input should be 'auto', 'on' or 'off'\n"


def test_a_start_on_a_machine_that_lacks_something_starts_nothing(tmp_path: Path) -> None:
    ended = clawlama("up", "--data", str(tmp_path / "data"), PATH="", CLAWLAMA_NODE_PREFIX=str(tmp_path))

    assert ended.returncode == 1
    assert "clawlama: Node and OpenClaw: OpenClaw needs Node" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_was_learned_is_listed_without_a_running_one(tmp_path: Path) -> None:
    store = AdapterStore(DataDir(tmp_path).adapters)
    made(store), made(store)
    store.promote(NAME, "v0001")

    ended = CliRunner().invoke(app, ["adapters", "--json", "--data", str(tmp_path)])

    listed = [(one["version"], one["current"]) for one in json.loads(ended.stdout)]
    assert listed == [("v0001", True), ("v0002", False)]


def test_nothing_learned_is_said_in_words(tmp_path: Path) -> None:
    ended = CliRunner().invoke(app, ["adapters", "--data", str(tmp_path)])

    assert (ended.exit_code, ended.stdout) == (0, "nothing learned yet: the bare model serves\n")


def test_settings_are_listed_with_their_other_names() -> None:
    ended = CliRunner().invoke(app, ["settings", "--json"])

    model = next(row for row in json.loads(ended.stdout) if row["name"] == "CLAWLAMA_MODEL")
    assert (ended.exit_code, model["default"]) == (0, "")
    assert model["also"] == ["CLAAS_BASE_MODEL_ID", "MODEL"]
