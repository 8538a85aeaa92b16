"""A container from its start to its end, asked the way a person asks: health check, chat turns, stop."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.image.engine import Container, docker

PATIENCE = 600.0  # seconds for a start or a lesson on a very busy machine
TINY = {"CLAWLAMA_MODEL": "tiny-chat", "CLAWLAMA_ENGINE": "llama"}
"""The bundled model on the embedded engine."""

LONG_REPLY = """
import sys, httpx
from pathlib import Path
token = Path("/data/secrets/api_token").read_text().strip()
body = {"model": "openclaw/assistant", "stream": True, "max_tokens": 4000, "ignore_eos": True,
        "messages": [{"role": "user", "content": "Tell me everything about tea."}]}
with httpx.stream("POST", "http://127.0.0.1:8080/v1/chat/completions", json=body, timeout=None, trust_env=False,
                  headers={"Authorization": f"Bearer {token}"}) as reply:
    for line in reply.iter_lines():
        print(line, flush=True)
"""
"""A reply that does not end by itself, through our API, in the image's own Python."""


def chat(container: Container, text: str, *, user: str | None = None) -> str:
    """The reply of a turn through OpenClaw."""
    ended = container.exec("clawlama", "chat", text, user=user, timeout=PATIENCE)
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}\n{container.logs()}"
    assert ended.stdout.strip()
    return ended.stdout.strip()


def health(container: Container) -> tuple[int, str]:
    """Exit code and line of the image's health check."""
    ended = container.exec("healthcheck")
    return ended.returncode, ended.stdout.strip()


def until_ready(container: Container) -> None:
    until(lambda: health(container) == (0, "ready"), container)


def until(true: Callable[[], bool], container: Container, *, patience: float = PATIENCE) -> None:
    """Wait for it while the container runs. AssertionError with its log when it ends first, or does not come true."""
    deadline = time.monotonic() + patience
    while not true():
        assert container.state["Running"], f"it ended with {container.state['ExitCode']}\n{container.logs()}"
        assert time.monotonic() < deadline, f"not within {patience:.0f} s; {health(container)}\n{container.logs()}"
        time.sleep(1)  # each look starts processes: no busier than that


def stops(container: Container) -> None:
    """``docker stop`` as it is: had it taken the ten seconds that Docker gives, the exit code were 137."""
    docker("stop", container.name)

    code = container.state["ExitCode"]
    assert code == 0, f"ended with {code}\n{container.logs()}"


def ends(container: Container, *, patience: float = PATIENCE) -> int:
    """The exit code, once it has ended by itself."""
    return int(docker("wait", container.name, timeout=patience))


def starts_again(container: Container) -> None:
    docker("start", container.name)
    until_ready(container)


@contextmanager
def talking(container: Container, *argv: str) -> Iterator[subprocess.Popen[str]]:
    """A command in the container that is still at it; it is over afterwards."""
    command = ["docker", "exec", container.name, *argv]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def replying(container: Container) -> Iterator[None]:
    """In the block a long reply comes through our API, and a turn through OpenClaw is under way beside it."""
    with (
        talking(container, "/opt/clawlama/bin/python3", "-c", LONG_REPLY) as ours,
        talking(container, "clawlama", "chat", "Tell me everything about rain."),
    ):
        assert ours.stdout is not None
        said = [ours.stdout.readline() for _ in range(20)]
        assert said[-1], said
        yield


@contextmanager
def teaching(container: Container) -> Iterator[None]:
    """In the block a lesson on the last reply is under way."""
    with talking(container, "clawlama", "feedback", "no emojis, please"):
        until(lambda: [one["state"] for one in lessons(container)[:1]] == ["running"], container)
        yield


@contextmanager
def folder_of_root(image: str, path: Path) -> Iterator[Path]:
    """An empty folder as ``docker run -v`` leaves it when it was not there: root's, mode 755."""

    def as_root(*argv: str) -> None:
        mount = ("--volume", f"{path}:/it", "--user", "0", "--network", "none")
        docker("run", "--rm", *mount, "--entrypoint", argv[0], image, *argv[1:])

    path.mkdir()
    as_root("chown", "0:0", "/it")
    as_root("chmod", "755", "/it")
    try:
        yield path
    finally:
        as_root("chown", "--recursive", f"{os.getuid()}:{os.getgid()}", "/it")


RECORDED = """
import sys, httpx
from pathlib import Path
token = Path("/data/secrets/api_token").read_text().strip()
reply = httpx.get("http://127.0.0.1:8080/v1/journal/completions", params={"limit": 100}, trust_env=False,
                  headers={"Authorization": f"Bearer {token}"})
sys.stdout.write(reply.raise_for_status().text)
"""


def recorded(container: Container) -> str:
    """What the journal has of the newest turns, as JSON."""
    ended = container.exec("/opt/clawlama/bin/python3", "-c", RECORDED)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def lessons(container: Container) -> list[dict[str, Any]]:
    ended = container.exec("clawlama", "lessons", "--json")
    assert ended.returncode == 0, ended.stderr
    found: list[dict[str, Any]] = json.loads(ended.stdout)
    return found


def owners(container: Container, folder: str = "/data") -> set[str]:
    """Who owns what is in a folder, as ``uid:gid``."""
    return set(container.exec("find", folder, "-printf", "%U:%G\n", user="0").stdout.split())
