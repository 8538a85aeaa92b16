"""Small real programs for the tests of services, and how to watch them."""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio

from supervisor.services.output import Output
from supervisor.services.proc import snapshot
from supervisor.services.process import Command
from supervisor.services.readiness import Readiness
from supervisor.services.service import Service
from supervisor.services.tree import Tree, supervised


def sh(script: str) -> Command:
    return Command(("/bin/sh", "-c", script))


def python(code: str, *arguments: str) -> Command:
    return Command((sys.executable, "-c", code, *arguments))


def alive(pid: int) -> bool:
    proc = snapshot().get(pid)
    return proc is not None and not proc.dead


def listed(pid: int) -> bool:
    """Alive or a zombie."""
    return pid in snapshot()


async def until(true: Callable[[], bool], within: float = 20.0) -> None:
    with anyio.fail_after(within):
        while not true():  # noqa: ASYNC110 - nothing announces what another process does
            await anyio.sleep(0.01)


async def pid_in(path: Path) -> int:
    """The number that a child writes there, with a line break after it."""
    await until(lambda: path.exists() and path.read_text().endswith("\n"))
    return int(path.read_text().split()[-1])


def appears(path: Path) -> Callable[[], Awaitable[None]]:
    """A probe: ready when the child has made the file; the file is removed, for the next start."""

    async def answers() -> None:
        while not path.exists():  # noqa: ASYNC110 - as above
            await anyio.sleep(0.01)
        path.unlink()

    return answers


async def at_once() -> None:
    """A probe of a service that needs no time."""


async def never() -> None:
    await anyio.sleep_forever()


def service(name: str, script: str, answers: Readiness = at_once, **more: Any) -> Service:
    return Service(name, lambda: sh(script), answers, Output(name), start_timeout=20, grace=5, **more)


@asynccontextmanager
async def grown(*services: Service, stop_within: float = 8.0) -> AsyncIterator[Tree]:
    """A tree with these, ready."""
    with anyio.fail_after(40):
        async with supervised(stop_within=stop_within) as tree:
            await tree.start(*services)
            yield tree


@asynccontextmanager
async def kept(one: Service) -> AsyncIterator[None]:
    """``run`` in the background; cancelled, and over, when the block ends."""
    with anyio.fail_after(40):
        async with anyio.create_task_group() as tg:
            tg.start_soon(one.run)
            try:
                yield
            finally:
                tg.cancel_scope.cancel()
