"""From settings to a running assistant and back. One block: inside it all is up, after it nothing is left."""

import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import anyio
import structlog

from supervisor.adapters.store import AdapterStore
from supervisor.assistant import Assistant, Hands, Up
from supervisor.errors import ClawlamaError
from supervisor.gateway.leftovers import remove_lock_files
from supervisor.host.facts import HostFacts
from supervisor.made import make
from supervisor.preflight import check
from supervisor.running import Running, forget_running, write_running
from supervisor.services.reaper import adopt_orphans, end_descendants, sweep
from supervisor.settings.datadir import DataDir
from supervisor.settings.settings import Settings
from supervisor.stack import own_log
from supervisor.start import Tell

log = structlog.get_logger()


@dataclass(frozen=True)
class Booted:
    """A running ClawLama. ``new_token``: OpenClaw's was made just now and nobody has seen it yet."""

    facts: HostFacts
    up: Up
    running: Running
    new_token: bool
    seconds: float  # from the start to ready


def nobody() -> None:
    """The ``stop`` of somebody who ends the block himself."""


@asynccontextmanager
async def booted(
    settings: Settings,
    tell: Tell,
    *,
    stop: Callable[[], None] = nobody,
    read: Callable[[], Settings] | None = None,
    show_output: bool = True,
) -> AsyncIterator[Booted]:
    """Everything up and ready inside the block, nothing left after it, cancelled or not.

    Raises what kept it from starting, and inside the block what could not be kept up, as one ClawlamaError.
    """
    started = anyio.current_time()
    data = DataDir(settings.data.absolute())
    hands = Hands(tell, stop, read or (lambda: settings))
    adopt_orphans()
    await anyio.to_thread.run_sync(end_leftovers, data)  # first: they may hold our ports
    await anyio.to_thread.run_sync(check, settings)
    data.prepare()
    with data.locked(), one_error(), own_log(settings, data):
        forget_running(data)
        forget_unfinished(data)
        made = await anyio.to_thread.run_sync(make, settings, data, show_output)
        try:
            async with Assistant(made, hands).up() as up:
                write_running(data, made.running)
                yield Booted(made.facts, up, made.running, made.new_token, anyio.current_time() - started)
        finally:
            forget_running(data)
            await end_descendants()
            remove_lock_files(made.gateway.claw)


def end_leftovers(data: DataDir) -> None:
    """Kill what a supervisor that died left running in this folder. AlreadyRunning while one lives there."""
    if not data.run.is_dir():
        return
    with data.locked():
        if swept := sweep(str(data.root)):
            log.warning("ended what an earlier supervisor left behind", pids=swept)


def forget_unfinished(data: DataDir) -> None:
    """Remove what a lesson left that was cut short by our death: its job, and the version in the making."""
    for job in data.lessons.iterdir():
        shutil.rmtree(job, ignore_errors=True)
    AdapterStore(data.adapters).drop_unfinished()


@contextmanager
def one_error() -> Iterator[None]:
    """Task groups raise groups; people want the one thing that went wrong."""
    try:
        yield
    except BaseExceptionGroup as group:
        if (error := only_error(group)) is None:
            raise
        raise error from group


def only_error(group: BaseExceptionGroup[BaseException]) -> ClawlamaError | None:
    """The first expected error of a group that holds nothing unexpected."""
    found: ClawlamaError | None = None
    for error in group.exceptions:
        inner = only_error(error) if isinstance(error, BaseExceptionGroup) else error
        if not isinstance(inner, ClawlamaError):
            return None
        found = found or inner
    return found
