"""The real Docker command line, as a person uses it; for the tests that build and run the image."""

import json
import shutil
import subprocess
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "clawlama:test"
PATIENCE = 120.0  # seconds for one command of Docker
BUILD_PATIENCE = 1800.0  # seconds for a build from nothing on a busy machine


def reachable() -> bool:
    """Whether an engine answers."""
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, timeout=PATIENCE, check=False).returncode == 0


def docker(*arguments: str, check: bool = True, timeout: float = PATIENCE, text: str | None = None) -> str:
    """What ``docker ARGUMENTS`` wrote to stdout, without the line's end; ``text`` goes to its stdin.

    Raises AssertionError with both outputs when it fails and ``check``.
    """
    ended = run(*arguments, timeout=timeout, text=text)
    assert ended.returncode == 0 or not check, f"docker {' '.join(arguments)}\n{ended.stdout}\n{ended.stderr}"
    return ended.stdout.rstrip("\n")


def run(*arguments: str, timeout: float = PATIENCE, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """The ended command, whatever became of it."""
    return subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, timeout=timeout, check=False, input=text, cwd=ROOT
    )


def inspect(name: str) -> dict[str, Any]:
    """What Docker knows of a container, an image or a volume."""
    found: list[dict[str, Any]] = json.loads(docker("inspect", name))
    return found[0]


def unused(kind: str) -> str:
    """A name that nothing else has."""
    return f"clawlama-{kind}-{uuid.uuid4().hex[:8]}"


@contextmanager
def volume() -> Iterator[str]:
    """A fresh named volume, gone afterwards."""
    name = unused("volume")
    docker("volume", "create", name)
    try:
        yield name
    finally:
        docker("volume", "rm", "--force", name)


@dataclass(frozen=True)
class Container:
    """One that is or was running; its name is its own."""

    name: str

    @property
    def state(self) -> dict[str, Any]:
        """``Running``, ``ExitCode``, ``Health``, ``OOMKilled`` ..."""
        found: dict[str, Any] = inspect(self.name)["State"]
        return found

    def exec(self, *argv: str, user: str | None = None, timeout: float = PATIENCE) -> subprocess.CompletedProcess[str]:
        """A command in it, ended."""
        chosen = ("--user", user) if user else ()
        return run("exec", *chosen, self.name, *argv, timeout=timeout)

    def logs(self) -> str:
        """All that it wrote, to stdout and stderr."""
        ended = run("logs", self.name)
        return ended.stdout + ended.stderr


@contextmanager
def container(
    image: str,
    *command: str,
    options: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    network: str = "none",
) -> Iterator[Container]:
    """``docker run --detach``; removed afterwards with its anonymous volumes, whatever happened.

    Without a network but loopback unless told otherwise: nothing here may need one.
    """
    name = unused("test")
    settings = [part for key, value in (env or {}).items() for part in ("--env", f"{key}={value}")]
    try:
        docker("run", "--detach", "--name", name, "--network", network, *settings, *options, image, *command)
        yield Container(name)
    finally:
        run("rm", "--force", "--volumes", name)
