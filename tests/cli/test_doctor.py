import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from supervisor.cli.main import app
from supervisor.errors import MachineError, SettingsError
from supervisor.host.facts import Disk, HostFacts
from supervisor.plan.catalog import CATALOG
from supervisor.plan.recommend import default_model
from supervisor.preflight import Finding, check, findings, port_free
from supervisor.settings.datadir import DataDir
from supervisor.settings.settings import Settings
from tests.fakes.ports import free_port, listening_socket
from tests.plan.machines import GIB, machine

ROOT = Path(__file__).parents[2]
NODE = ROOT / ".node"
PI5 = ROOT / "tests/plan/recorded/pi5.json"


def choose(data: Path, **other: object) -> Settings:
    ports = {"api_port": free_port(), "openclaw_port": free_port()}
    return Settings.model_validate({"data": data, "node_prefix": NODE, **ports, **other})


def wrong(settings: Settings, facts: HostFacts | None = None) -> list[Finding]:
    """What is not right, Node and OpenClaw aside: they may not be installed where this runs."""
    found = findings(settings, facts or machine())
    return [finding for finding in found if not finding.ok and finding.name != "Node and OpenClaw"]


def doctor(data: Path, *options: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """The real command, in an environment of its own."""
    ports = {"CLAWLAMA_API_PORT": str(free_port()), "CLAWLAMA_OPENCLAW_PORT": str(free_port())}
    argv = [sys.executable, "-m", "supervisor", "doctor", "--data", str(data), *options]
    env = {"PATH": os.environ["PATH"], "HOME": str(data.parent), "CLAWLAMA_NODE_PREFIX": str(NODE), **ports, **environ}
    return subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)


@contextmanager
def taken_port() -> Iterator[int]:
    with listening_socket() as listener:
        yield int(listener.getsockname()[1])


def test_a_usual_machine_has_nothing_wrong(tmp_path: Path) -> None:
    assert wrong(choose(tmp_path)) == []


@pytest.mark.parametrize("name", ["api_port", "openclaw_port"])
def test_a_taken_port_is_named_with_its_variable(tmp_path: Path, name: str) -> None:
    with taken_port() as port:
        (finding,) = wrong(choose(tmp_path, **{name: port}))

    assert finding.detail == (
        f"127.0.0.1:{port} cannot be used (Address already in use); "
        f"stop what listens there, or set CLAWLAMA_{name.upper()} to another port"
    )


def test_two_services_cannot_have_one_port(tmp_path: Path) -> None:
    (finding,) = wrong(choose(tmp_path, api_port=7777, openclaw_port=7777))

    assert finding.detail == "CLAWLAMA_API_PORT and CLAWLAMA_OPENCLAW_PORT are both 7777; give each its own"


def test_ports_that_a_running_one_uses_are_right(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    data.prepare()

    with taken_port() as port, data.locked():
        assert wrong(choose(tmp_path, api_port=port)) == []


@pytest.mark.parametrize("host", ["::1", "127.0.0.1"])
def test_a_free_port_is_left_free(host: str) -> None:
    port = free_port()

    for _ in range(2):
        assert port_free(host, port, "X") == f"{port} is free"


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(MachineError, match=r"192\.0\.2\.1:\d+ cannot be used \(Cannot assign requested address\)"):
        port_free("192.0.2.1", free_port(), "CLAWLAMA_API_PORT")


@pytest.mark.parametrize("place", ["/proc/clawlama", "/dev/null/clawlama"])
def test_a_data_folder_that_cannot_be_written_is_named_with_the_remedy(place: str) -> None:
    (finding,) = wrong(choose(Path(place)))

    assert finding.name == "data folder"
    assert finding.detail.startswith(f"{place} is not writable (")
    assert finding.detail.endswith("or choose another folder with CLAWLAMA_DATA")


def test_one_gigabyte_of_disk_is_too_little(tmp_path: Path) -> None:
    facts = machine(disk=Disk(path=tmp_path, total=8 * GIB, free=1 * GIB))

    (finding,) = wrong(choose(tmp_path), facts)

    assert finding.detail == (
        f"1.0 GiB free at {tmp_path}, 2 GiB are needed; free some, or choose another folder with CLAWLAMA_DATA"
    )


@pytest.mark.parametrize(
    ("facts", "detail"),
    [
        (machine(memory_available=2**20), "of memory are free; tiny-chat needs"),
        (machine(simd=()), "this CPU has no AVX2"),
    ],
)
def test_a_machine_that_is_too_small_is_told_what_is_missing(tmp_path: Path, facts: HostFacts, detail: str) -> None:
    (finding,) = wrong(choose(tmp_path), facts)

    assert finding.name == "memory and model"
    assert detail in finding.detail


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    (finding,) = wrong(choose(tmp_path, engine="llama", model="gpt-oss:20b"))

    assert "CLAWLAMA_MODEL='gpt-oss:20b' is neither a bundled model" in finding.detail


def test_memory_that_ollama_holds_already_counts_as_there(tmp_path: Path) -> None:
    facts = machine(memory_total=16 * GIB, memory_available=3 * GIB)
    settings = choose(tmp_path, engine="ollama", model="qwen3:8b")

    fits = next(finding for finding in findings(settings, facts) if finding.name == "memory and model")

    assert fits == Finding("memory and model", ok=True, detail="Ollama serves qwen3:8b (4.8 GiB)")


def test_starting_stops_at_everything_that_is_wrong(tmp_path: Path) -> None:
    with taken_port() as port, pytest.raises(MachineError) as error:
        check(choose(Path("/proc/clawlama"), api_port=port, node_prefix=tmp_path))

    lines = str(error.value).splitlines()
    assert lines[0].startswith("data folder: /proc/clawlama is not writable")
    assert lines[-1].startswith(f"API port: 127.0.0.1:{port} cannot be used")


def test_a_machine_without_node_is_told_so_in_one_line_and_left_as_it_was(tmp_path: Path) -> None:
    ended = doctor(tmp_path / "data", PATH="", CLAWLAMA_NODE_PREFIX=str(tmp_path))

    failed = [line for line in ended.stdout.splitlines() if not line.startswith("ok ")]
    assert ended.returncode == 1
    assert ended.stderr == ""
    assert len(failed) == 1
    assert failed[0].startswith("fail Node and OpenClaw: OpenClaw needs Node 24.16 or newer")
    assert failed[0].endswith("run scripts/install_node.sh in the checkout")
    assert list(tmp_path.iterdir()) == []


def test_every_problem_has_its_line_and_no_other_is_hidden_by_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with taken_port() as port:
        ended = doctor(tmp_path / "file", PATH="", CLAWLAMA_NODE_PREFIX=str(tmp_path), CLAWLAMA_API_PORT=str(port))

    failed = [line for line in ended.stdout.splitlines() if line.startswith("fail")]
    assert (ended.returncode, ended.stderr) == (1, "")
    assert [line.split(":")[0] for line in failed] == ["fail data folder", "fail Node and OpenClaw", "fail API port"]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def run(*options: str, **environ: str) -> Result:
    """The command in this process, for what needs no environment of its own."""
    return CliRunner().invoke(app, ["doctor", *options], env={"COLUMNS": "100", **environ})


def test_scripts_get_json(tmp_path: Path) -> None:
    environ = {"CLAWLAMA_NODE_PREFIX": str(tmp_path), "CLAWLAMA_MODEL": "./[absent]"}

    ended = run("--json", "--data", str(tmp_path), **environ)

    told = json.loads(ended.stdout)
    found = {finding["name"]: finding for finding in told["findings"]}
    assert ended.exit_code == 1
    assert "[absent]" in found["memory and model"]["detail"]
    assert found["data folder"] == {"name": "data folder", "ok": True, "detail": str(tmp_path)}
    assert told["plan"] == [f"no plan: {found['memory and model']['detail']}"]
    assert told["recommended"] in CATALOG


@pytest.mark.parametrize("options", [(), ("--explain",)])
def test_a_machine_that_was_recorded_is_explained_elsewhere(tmp_path: Path, options: tuple[str, ...]) -> None:
    (tmp_path / "mine.json").write_text(run("--json", "--data", str(tmp_path)).stdout)
    facts = HostFacts.model_validate(json.loads((tmp_path / "mine.json").read_text())["facts"])

    ended = run("--machine", str(tmp_path / "mine.json"), *options)

    assert ended.exit_code == 0
    assert ended.stdout.splitlines()[0].startswith("machine ")
    assert f"Ollama serves {default_model(facts)} " in ended.stdout
    assert "ok  " not in ended.stdout


def test_a_recorded_machine_may_be_asked_for_another_model() -> None:
    ended = run("--machine", str(PI5), CLAWLAMA_MODEL="gpt-oss:20b")

    assert ended.exit_code == 1
    assert "no plan       7.2 GiB of memory are free; gpt-oss:20b needs" in ended.stdout
    assert "recommended   qwen3:1.7b (Q4_K_M, 1.4 GB to download" in ended.stdout


def test_of_a_model_that_nobody_knows_yet_the_rest_is_told() -> None:
    ended = run("--machine", str(PI5), CLAWLAMA_MODEL="somebody/else:3b")

    assert ended.exit_code == 1
    assert "somebody/else:3b is not in our list (clawlama doctor --models)" in ended.stdout


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "cannot be read: [Errno 2]"),
        ("{", "does not describe a machine (Expecting"),
        ("[]", "does not describe a machine ("),
        ("{}", "(architecture: Field required); make it with: clawlama doctor --json"),
        ('{"facts": 1}', "does not describe a machine"),
    ],
)
def test_a_file_that_is_no_machine_is_refused_in_one_line(tmp_path: Path, text: str | None, problem: str) -> None:
    file = tmp_path / "machine.json"
    if text is not None:
        file.write_text(text)

    ended = run("--machine", str(file))

    assert isinstance(ended.exception, SettingsError)
    assert problem in str(ended.exception)
    assert "\n" not in str(ended.exception)


def test_the_models_are_listed_and_this_machines_row_is_marked() -> None:
    ended = run("--models", "--machine", str(PI5))

    assert ended.exit_code == 0
    (marked,) = (line for line in ended.stdout.splitlines() if line.startswith("→"))
    assert "8 GB RAM" in marked
    assert "qwen3:1.7b" in marked
    assert max(map(len, ended.stdout.splitlines())) <= 80
    assert ended.stdout.splitlines()[-1] == "recommended here: qwen3:1.7b"


@pytest.mark.openclaw
@pytest.mark.skipif(not NODE.is_dir(), reason="OpenClaw is not installed; scripts/install_node.sh does it")
def test_a_machine_that_is_ready_says_what_would_run_and_why(tmp_path: Path) -> None:
    ended = doctor(tmp_path / "data", "--explain")

    assert (ended.returncode, ended.stderr) == (0, "")
    checks, _, plan = ended.stdout.partition("\n\n")
    assert all(line.startswith("ok ") for line in checks.splitlines())
    assert "tokens: the longest the model knows" in plan
    assert "recommended   " in plan
    assert list(tmp_path.iterdir()) == []
