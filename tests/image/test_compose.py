"""The compose files: valid, nothing that Portainer or Dockge cannot take, and no variable untold."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from supervisor.settings.reference import SettingRow, setting_rows
from tests.image.engine import ROOT

COMPOSE, GPU, EXAMPLE = ROOT / "docker-compose.yml", ROOT / "compose.gpu.yaml", ROOT / ".env.example"
VARIABLE = re.compile(r"\$\{(\w+):-([^}]*)\}")


def config(*files: Path) -> dict[str, Any]:
    """What compose makes of the files, with nothing set."""
    if shutil.which("docker") is None or subprocess.run(["docker", "compose", "version"], check=False).returncode:
        pytest.skip("docker compose is not installed")
    named = [word for file in files for word in ("--file", str(file))]
    command = ["docker", "compose", "--env-file", "/dev/null", *named, "config", "--format", "json"]
    made = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (made.returncode, made.stderr) == (0, "")
    found: dict[str, Any] = json.loads(made.stdout)
    return found


def variables() -> dict[str, str]:
    """What can be set from outside, with its default."""
    return dict(VARIABLE.findall(COMPOSE.read_text()))


def settings() -> dict[str, SettingRow]:
    return {row.name: row for row in setting_rows()}


def test_pasted_without_a_variable_it_is_a_whole_and_careful_deployment() -> None:
    made = config(COMPOSE)
    one = made["services"]["clawlama"]

    assert list(made["services"]) == ["clawlama"]
    assert one["volumes"] == [{"type": "volume", "source": "clawlama-data", "target": "/data", "volume": {}}]
    assert (one["hostname"], one["restart"], one["stop_grace_period"]) == ("clawlama", "unless-stopped", "15s")
    assert (one["read_only"], one["cap_drop"]) == (True, ["ALL"])
    assert one["security_opt"] == ["no-new-privileges:true"]
    assert made["x-casaos"]["main"] == "clawlama"
    assert one["healthcheck"]["test"] == ["CMD", "/usr/local/bin/healthcheck"]


def test_it_needs_nothing_beside_it() -> None:
    one = config(COMPOSE)["services"]["clawlama"]

    assert {"build", "env_file", "secrets", "configs", "extends"} & set(one) == set()
    assert {volume["type"] for volume in one["volumes"]} == {"volume"}


def test_the_gpu_is_all_that_the_other_file_adds() -> None:
    plain, with_gpu = config(COMPOSE), config(COMPOSE, GPU)

    (device,) = with_gpu["services"]["clawlama"].pop("deploy")["resources"]["reservations"]["devices"]

    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    assert with_gpu == plain


def test_every_variable_that_reaches_clawlama_is_a_setting_of_its_own_name() -> None:
    for name, value in re.findall(r"^ {6}(CLAWLAMA_\w+): (.*)$", COMPOSE.read_text(), re.MULTILINE):
        assert value.startswith(f"${{{name}:-"), value
        assert name in settings()


def test_the_example_has_each_variable_with_its_default_and_the_settings_own_words() -> None:
    blocks = [block.splitlines() for block in EXAMPLE.read_text().split("\n\n")[1:]]

    shown = {lines[-1].partition("=")[0]: lines for lines in blocks}

    assert {name: lines[-1].partition("=")[2] for name, lines in shown.items()} == variables()
    for name, lines in shown.items():
        meaning = " ".join(line.removeprefix("# ") for line in lines[:-1])
        assert meaning == settings()[name].meaning if name in settings() else meaning.endswith("."), name


def test_what_the_image_sets_itself_is_not_unset_by_an_empty_variable() -> None:
    image = re.search(r"^ENV (.*?)\n(?! )", (ROOT / "Dockerfile").read_text(), re.MULTILINE | re.DOTALL)
    assert image is not None
    fixed = set(re.findall(r"(\w+)=", image.group(1)))

    assert [name for name, default in variables().items() if name in fixed and not default] == []
