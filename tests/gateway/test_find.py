import json
from pathlib import Path

import pytest

from supervisor.errors import MachineError, NodeMissing, OpenClawMissing
from supervisor.gateway.find import find_runtime


def node(path: Path, version: str) -> Path:
    """A program that says it is this Node."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho v{version}\n")
    path.chmod(0o755)
    return path


def openclaw(folder: Path, version: str = "2026.9.6", name: str = "openclaw") -> Path:
    folder.mkdir(parents=True)
    (folder / "package.json").write_text(json.dumps({"name": name, "version": version}))
    (folder / "openclaw.mjs").write_text("// launcher\n")
    (folder / "openclaw.mjs").chmod(0o755)
    return folder / "openclaw.mjs"


def test_what_was_installed_in_the_npm_folder_comes_first(tmp_path: Path) -> None:
    mine = node(tmp_path / "prefix/node_modules/.bin/node", "24.21.0")
    entry = openclaw(tmp_path / "prefix/node_modules/openclaw")
    node(tmp_path / "bin/node", "26.1.0")

    found = find_runtime(tmp_path / "prefix", str(tmp_path / "bin"))

    assert (found.node, found.node_version) == (mine, "24.21.0")
    assert (found.entry, found.openclaw_version) == (entry, "2026.9.6")


def test_a_global_install_is_found_through_its_link_on_the_path(tmp_path: Path) -> None:
    node(tmp_path / "bin/node", "26.2.1")
    entry = openclaw(tmp_path / "lib/node_modules/openclaw")
    (tmp_path / "bin/openclaw").symlink_to(entry)

    assert find_runtime(None, str(tmp_path / "bin")).entry == entry


@pytest.mark.parametrize("version", ["20.20.2", "24.15.9", "25.9.0", "26.0.1"])
def test_a_node_that_openclaw_cannot_run_on_is_named_with_the_remedy(tmp_path: Path, version: str) -> None:
    node(tmp_path / "bin/node", version)

    with pytest.raises(NodeMissing, match=rf"bin/node is {version}.*install_node\.sh"):
        find_runtime(None, str(tmp_path / "bin"))


@pytest.mark.parametrize("version", ["24.16.0", "24.99.0", "26.1.0", "27.0.0"])
def test_a_node_that_openclaw_can_run_on_is_taken(tmp_path: Path, version: str) -> None:
    node(tmp_path / "bin/node", version)
    openclaw(tmp_path / "prefix/node_modules/openclaw")

    assert find_runtime(tmp_path / "prefix", str(tmp_path / "bin")).node_version == version


def test_a_node_that_does_not_run_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/node").write_text("not a program")
    (tmp_path / "bin/node").chmod(0o755)

    with pytest.raises(NodeMissing, match="not runnable"):
        find_runtime(None, str(tmp_path / "bin"))


def test_no_node_at_all_is_a_problem_of_the_machine(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="found: none"):
        find_runtime(None, str(tmp_path))


def test_node_alone_is_not_enough(tmp_path: Path) -> None:
    node(tmp_path / "bin/node", "24.21.0")

    with pytest.raises(OpenClawMissing, match=r"install_node\.sh"):
        find_runtime(tmp_path / "prefix", str(tmp_path / "bin"))


def test_another_program_of_that_name_is_not_openclaw(tmp_path: Path) -> None:
    node(tmp_path / "bin/node", "24.21.0")
    (tmp_path / "bin/openclaw").symlink_to(openclaw(tmp_path / "games/openclaw", name="captain-claw"))

    with pytest.raises(OpenClawMissing):
        find_runtime(None, str(tmp_path / "bin"))
