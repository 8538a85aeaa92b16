"""The README's commands for Docker, read out of it and run as they stand; their image is the one that was built."""

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import anyio
import pytest

from supervisor.gateway.client import ask
from tests.fakes.ports import free_port
from tests.image.engine import ROOT, Container, docker, run
from tests.image.life import PATIENCE, folder_of_root, health, owners, until, until_ready

RUN_IT, LEARNS = "Run it in Docker", "See it learn (one command)"
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
README_IMAGE = "ghcr.io/clawlama/clawlama:latest"
ONE = Container("clawlama")
TOKEN = "a-password-of-24-characters"


def blocks(title: str = RUN_IT) -> list[list[str]]:
    """The commands of each shell block of a section, one a line."""
    _, found, rest = (ROOT / "README.md").read_text().partition(f"\n## {title}\n")
    assert found
    return [block.replace("\\\n", " ").splitlines() for block in BLOCK.findall(rest.partition("\n## ")[0])]


RUN, TALK, COMPOSE, FOLDER, LOCKED = range(5)


@pytest.fixture(autouse=True)
def as_if_pulled(image: str) -> Iterator[None]:
    """The image under the name that people type. Skips where somebody uses that name, or what the commands make."""
    theirs = [
        *(("container", name) for name in ("clawlama", "clawlama-clawlama-1")),
        *(("volume", name) for name in ("clawlama-data", "clawlama_clawlama-data")),
        ("image", README_IMAGE),
    ]
    if used := [name for kind, name in theirs if run(kind, "inspect", name).returncode == 0]:
        pytest.skip(f"in use here, and not the tests' to remove: {', '.join(used)}")
    docker("tag", image, README_IMAGE)
    with ExitStack() as afterwards:
        afterwards.callback(run, "image", "rm", README_IMAGE)
        afterwards.callback(run, "volume", "rm", "clawlama-data")
        afterwards.callback(run, "rm", "--force", "--volumes", "clawlama")
        yield


def shell(command: str, environment: Mapping[str, str] | None = None, *, cwd: Path = ROOT) -> str:
    """What a command prints, as a person's shell runs it."""
    ran = subprocess.run(
        ["sh", "-c", command],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        timeout=PATIENCE,
        env={**os.environ, **(environment or {})},
    )
    assert ran.returncode == 0, f"{command}\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout.strip()


def test_the_blocks_are_what_this_file_takes_them_for() -> None:
    starts = [block[0].split(" --name clawlama ")[0].split(" clawlama ")[0] for block in blocks()]

    assert starts == ["docker run -d", "docker exec", "docker compose up -d", "docker run -d", "docker run -d"]


def test_two_commands_bring_the_link_and_three_more_talk_teach_and_tell() -> None:
    start, follow = blocks()[RUN]
    shell(start)
    assert follow == "docker logs -f clawlama"
    with subprocess.Popen(shlex.split(follow), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as log:
        assert log.stderr is not None
        shown = next((line for line in log.stderr if "#token=" in line), "")
        log.send_signal(signal.SIGINT)

    assert shown.strip().startswith("http://127.0.0.1:18789/#token=")
    chatted, taught, told = (shell(command) for command in blocks()[TALK])
    assert chatted
    assert "v0001" in taught
    assert "v0001" in told


def test_the_demo_learns_with_nothing_but_the_image() -> None:
    [command], *_ = blocks(LEARNS)
    assert command == f"docker run --rm {README_IMAGE} demo"

    assert shell(command.replace("docker run ", "docker run --network none "))


@pytest.mark.anyio
async def test_compose_brings_it_up_with_two_variables_and_takes_it_down() -> None:
    up, talk = blocks()[COMPOSE]
    port = free_port()
    chosen = {"CLAWLAMA_MODEL": "qwen3:0.6b", "CLAWLAMA_OPENCLAW_TOKEN": TOKEN}
    around = {**chosen, "HOST_PORT": str(port), "HOST_API_PORT": str(free_port())}
    one = Container("clawlama-clawlama-1")
    try:
        shell(up, around)
        await anyio.to_thread.run_sync(until_ready, one)
        await anyio.to_thread.run_sync(until, lambda: one.state["Health"]["Status"] == "healthy", one)

        assert shell(talk, around)
        with anyio.fail_after(PATIENCE):
            through_the_port = [piece async for piece in ask(f"http://127.0.0.1:{port}", TOKEN, "Hi", session="one")]
        assert "".join(through_the_port)
        assert owners(one) == {"1000:1000"}

        shell("docker compose stop", around)
        assert one.state["ExitCode"] == 0, one.logs()
    finally:
        shell("docker compose down --volumes", around)


def test_a_folder_of_ones_own_is_given_to_the_user_that_was_named(image: str, tmp_path: Path) -> None:
    (command,) = blocks()[FOLDER]
    with folder_of_root(image, tmp_path / "clawlama"):
        shell(command, cwd=tmp_path)

        until(lambda: health(ONE)[0] == 0, ONE)

        assert owners(ONE) == {"1234:1234"}
        run("rm", "--force", ONE.name)


def test_locked_down_it_comes_up(image: str) -> None:
    (command,) = blocks()[LOCKED]

    shell(command)

    until(lambda: health(ONE)[0] == 0, ONE)
