"""One volume through a hard life: locked down, stopped in the middle, killed, each time in a new container."""

from collections.abc import Iterator
from contextlib import AbstractContextManager

import pytest

from tests.image.engine import Container, container, docker, run, volume
from tests.image.life import (
    TINY,
    chat,
    ends,
    health,
    lessons,
    replying,
    starts_again,
    stops,
    teaching,
    until,
    until_ready,
)

LOCKED_DOWN = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")


@pytest.fixture(scope="module")
def home() -> Iterator[str]:
    with volume() as name:
        yield name


def life(image: str, home: str, *command: str, options: tuple[str, ...] = ()) -> AbstractContextManager[Container]:
    """A new container, so with a new host name, on the same volume."""
    return container(image, *command, options=("--volume", f"{home}:/data", *LOCKED_DOWN, *options), env=TINY)


def with_init(image: str) -> dict[str, tuple[str, ...]]:
    """``--init``: Docker's own init process in front of ours. It is tini too, for engines that come without it."""
    if run("run", "--rm", "--init", "--network", "none", "--entrypoint", "true", image).returncode == 0:
        return {"options": ("--init",), "command": ()}
    return {"options": ("--entrypoint", "tini"), "command": ("--", "tini", "-s", "--", "clawlama", "up")}


def test_locked_down_with_two_gigabytes_it_answers_and_stops_in_the_middle_of_a_reply(image: str, home: str) -> None:
    init = with_init(image)
    options = (*init["options"], "--memory", "2g", "--memory-swap", "2g")
    with life(image, home, *init["command"], options=options) as one:
        until_ready(one)
        assert chat(one, "What is tea?")

        with replying(one):
            stops(one)

        assert not one.state["OOMKilled"]


def test_stopped_in_a_lesson_it_learns_after_the_next_start_and_ends_nonzero_when_killed(image: str, home: str) -> None:
    with life(image, home) as one:
        until_ready(one)
        assert chat(one, "What is rain?")
        with teaching(one):
            stops(one)

        starts_again(one)
        until(lambda: lessons(one)[0]["state"] == "done", one)

        one.exec("sh", "-c", "kill -9 $(cat /data/run/lock)")
        assert ends(one, patience=60) == 137


def test_killed_while_it_starts_it_serves_in_a_new_container_what_was_learned(image: str, home: str) -> None:
    with life(image, home) as one:
        until(lambda: health(one)[1].startswith("starting"), one)
        docker("kill", one.name)

    with life(image, home) as other:
        until_ready(other)

        assert chat(other, "What is tea?")
        assert "v0001" in other.exec("clawlama", "status").stdout
