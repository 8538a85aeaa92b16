"""clawlama packs, as people type it."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.host.gpu import find_gpus
from supervisor.packs.choose import python_version
from supervisor.packs.installed import write_record
from supervisor.packs.pack import known_packs, shipped
from supervisor.settings.datadir import DataDir
from tests.packs.depot import Depot, depot, executable, locked, pack_of

ROOT = Path(__file__).parents[2]
NO_GPU = pytest.mark.skipif(bool(find_gpus().gpus), reason="this machine has a GPU")
HAS_PACKS = pytest.mark.skipif(
    not [
        pack for pack in known_packs(shipped()) if (pack.machine, pack.python) == (platform.machine(), python_version())
    ],
    reason="no torch pack for this processor and Python",
)


def packs(data: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "HOME": str(data), "COLUMNS": "200", **environ}
    argv = [sys.executable, "-m", "supervisor", "packs", *arguments, "--data", str(data)]
    return subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)


def lying(data: Path) -> Path:
    """A pack in the data folder, as an installation leaves it."""
    pack = pack_of(locked("x.whl", b"x", 1))
    folder = DataDir(data).packs / pack.folder
    (folder / "torch").mkdir(parents=True)
    (folder / "torch" / "__init__.py").write_text("x" * 5000)
    write_record(pack, folder)
    return folder


@NO_GPU
@pytest.mark.parametrize("action", ["list", "install"])
def test_without_a_gpu_it_says_so_calmly(tmp_path: Path, action: str) -> None:
    ended = packs(tmp_path, action)

    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == "no pack is wanted: there is no NVIDIA GPU here, and a CPU needs none\n"
    assert list(tmp_path.iterdir()) == []


def test_switched_off_is_said(tmp_path: Path) -> None:
    assert packs(tmp_path, CLAWLAMA_GPU_PACKS="off").stdout == "no pack is wanted: CLAWLAMA_GPU_PACKS is off\n"


@HAS_PACKS
def test_what_is_wanted_is_listed_with_its_size(tmp_path: Path) -> None:
    ollama = executable(tmp_path / "bin" / "ollama")
    environ = {"CLAWLAMA_GPU_PACKS": "on", "CLAWLAMA_ENGINE": "ollama", "PATH": str(ollama.parent)}
    found = json.loads(packs(tmp_path, "--json", **environ).stdout)["packs"]

    states = {pack["name"]: (pack["state"], pack["size"] > 10**9) for pack in found}
    assert states["torch-cuda"] == ("wanted", True)
    assert states["ollama-cuda13"] == ("wanted, but its checksum is not known to this build", False)


@HAS_PACKS
def test_an_index_that_does_not_have_it_is_named_in_one_line(tmp_path: Path) -> None:
    with depot() as empty:
        index = {"CLAWLAMA_PACKAGE_INDEX": f"{empty.url}/simple"}
        ended = packs(tmp_path, "install", "torch-cuda", **index)

    assert ended.returncode == 1
    assert ended.stderr.startswith("clawlama: the package index 127.0.0.1 does not have torch-")
    assert ended.stderr.count("\n") == 1
    assert asked_for_torch(empty)


def asked_for_torch(index: Depot) -> bool:
    return [path for path, _ in index.asked] == ["/simple/torch/"]


@HAS_PACKS
def test_a_pack_without_a_known_checksum_is_refused(tmp_path: Path) -> None:
    ended = packs(tmp_path, "install", "ollama-cuda13")

    assert ended.returncode == 1
    assert "is not known to this build, so it is not downloaded" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_no_pack_is_answered_with_those_that_are(tmp_path: Path) -> None:
    ended = packs(tmp_path, "install", "cuda")

    assert ended.returncode == 1
    assert f"there is no pack 'cuda' for {platform.machine()}; there are: " in ended.stderr


def test_what_is_not_used_is_listed_and_can_be_removed(tmp_path: Path) -> None:
    folder = lying(tmp_path)

    listed = packs(tmp_path).stdout
    removed = packs(tmp_path, "remove", "torch-cuda")

    assert "installed, not used" in listed
    assert "5.0 kB" in listed
    assert (removed.returncode, folder.exists()) == (0, False)
    assert "torch-cuda removed; it comes back where a GPU is seen, unless CLAWLAMA_GPU_PACKS=off" in removed.stdout


@pytest.mark.parametrize("name", [(), ("ollama-cuda13",)])
def test_what_is_not_there_cannot_be_removed(tmp_path: Path, name: tuple[str, ...]) -> None:
    lying(tmp_path)

    ended = packs(tmp_path, "remove", *name)

    assert ended.returncode == 1
    assert "there: torch-cuda" in ended.stderr


def test_what_may_be_in_use_is_not_removed(tmp_path: Path) -> None:
    folder = lying(tmp_path)
    data = DataDir(tmp_path)
    data.prepare()

    with data.locked():
        ended = packs(tmp_path, "remove", "torch-cuda")

    assert ended.returncode == 1
    assert "may be in use by the running clawlama; stop that first" in ended.stderr
    assert folder.exists()
