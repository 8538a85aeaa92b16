"""One child process, and the promise that it and its offspring are gone when we are done with it."""

import asyncio
import math
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from uuid import uuid4

import anyio
import structlog

from supervisor.services.output import Output, collecting
from supervisor.services.priority import step_back
from supervisor.services.proc import Proc, environment_value, snapshot, with_descendants
from supervisor.services.reaper import LEADERS, OWNER_VARIABLE, adopt_orphans, bury_orphans, kill, owner_mark

KILL_PATIENCE: Final = 1.0  # seconds for SIGKILL to work; a process stuck in a driver may outlive it

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(frozen=True)
class Command:
    """What to start. ``env`` is the complete environment; None hands down our own. ``nice``: see priority.step_back."""

    argv: tuple[str, ...]
    env: Mapping[str, str] | None = None
    cwd: Path | None = None
    nice: int = 0


@dataclass(eq=False)
class Process:
    """A started child, leader of its own session.

    Its exit status is looked at, not collected, until ``running`` ends: so nobody else can be given its
    pid while its group may still be signalled.
    """

    pid: int
    mark: str  # value of CLAWLAMA_OWNER in its environment and its offspring's
    grace: float  # seconds between SIGTERM and SIGKILL; may be lowered at any time, even while it is used
    end_by: float = math.inf  # when, on the event loop's clock, grace is over however much there was; as above
    returncode: int | None = None  # negative: the signal that ended it
    _exited: anyio.Event = field(default_factory=anyio.Event)

    async def wait(self) -> int:
        """Return the leader's exit code; its offspring may live on until ``running`` ends."""
        await self._exited.wait()
        assert self.returncode is not None
        return self.returncode

    def look(self) -> None:
        """Note the exit status if there is one, and leave it for whoever collects it."""
        if self.returncode is not None:
            return
        try:
            result = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            log.error("somebody else collected the exit status of our child", pid=self.pid)  # noqa: TRY400
            self.returncode = 255
        else:
            if result is None:
                return
            self.returncode = result.si_status if result.si_code == os.CLD_EXITED else -result.si_status
        self._exited.set()


@asynccontextmanager
async def running(
    command: Command,
    *,
    output: Output | None = None,
    grace: float = 10.0,
    owner: str = "",
    descriptors: Mapping[str, int] | None = None,
) -> AsyncIterator[Process]:
    """A live process in its own session; it and its offspring are gone when the block ends.

    The end: SIGTERM to everything that stems from it, ``grace`` seconds, SIGKILL. Offspring is its
    session, whatever descends from that, and orphans with its mark, so a daemon does not get away by
    setsid. Without ``output`` it writes where we write. ``descriptors`` are handed down, their numbers in
    these variables. Raises OSError when it cannot be started.
    """
    adopt_orphans()
    with ExitStack() as stack:
        writer = None if output is None else stack.enter_context(collecting(output))
        mark = owner_mark(owner, uuid4().hex)
        process = stack.enter_context(_started(command, writer, grace, mark, descriptors or {}))
        try:
            yield process
        finally:
            with anyio.CancelScope(shield=True):
                await _end(process)


@contextmanager
def _started(
    command: Command, writer: int | None, grace: float, mark: str, descriptors: Mapping[str, int]
) -> Iterator[Process]:
    numbers = {variable: str(number) for variable, number in descriptors.items()}
    popen = subprocess.Popen(
        command.argv,
        env={**_environment(command), **numbers, OWNER_VARIABLE: mark},
        cwd=command.cwd,
        stdin=subprocess.DEVNULL,
        stdout=writer,
        stderr=writer,
        start_new_session=True,
        pass_fds=tuple(descriptors.values()),
    )
    LEADERS.add(popen.pid)  # before anything is awaited: see reaper.bury_orphans
    if command.nice:
        step_back(popen.pid, command.nice)
    process = Process(popen.pid, mark, grace)
    try:
        with _exit_announced(process):
            yield process
    finally:
        popen.poll()
        LEADERS.discard(popen.pid)


@contextmanager
def _exit_announced(process: Process) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    try:
        announcement = os.pidfd_open(process.pid)
    except OSError:  # a kernel before 5.3, or a sandbox that forbids it
        os.killpg(process.pid, signal.SIGKILL)
        raise

    def look_once() -> None:
        loop.remove_reader(announcement)  # it stays readable for ever
        process.look()

    loop.add_reader(announcement, look_once)
    try:
        yield
    finally:
        loop.remove_reader(announcement)
        os.close(announcement)


def _environment(command: Command) -> Mapping[str, str]:
    return os.environ if command.env is None else command.env  # noqa: TID251 - handed down, not read


async def _end(process: Process) -> None:
    """Return when nothing alive stems from the process, or SIGKILL has had its time."""
    began = now = anyio.current_time()
    killed: float | None = None
    known: set[int] = set()
    pause = 0.005
    # The second look is for what was forked during the first, by a parent that ended meanwhile.
    while members := _alive(process, known) or _alive(process, known):
        if killed is not None and now - killed > KILL_PATIENCE:
            log.error("processes survive SIGKILL", pids=[member.pid for member in members])
            return
        if now - began >= process.grace or now >= process.end_by:
            killed = killed or now
            _signal_all(process, members, signal.SIGKILL)
        elif not known:
            _signal_all(process, members, signal.SIGTERM)
            _signal_all(process, members, signal.SIGCONT)  # a stopped process sees SIGTERM only then
        else:
            _signal_strays(members, known)
        known.update(member.pid for member in members)
        await anyio.sleep(pause)
        pause = min(pause * 1.5, 0.05)
        now = anyio.current_time()
    process.look()


def _alive(process: Process, known: set[int]) -> list[Proc]:
    """What lives and stems from the process; ``known`` did so before. Buries the adopted dead on the way."""
    bury_orphans()
    table = snapshot()
    adopted = (proc for proc in table.values() if proc.ppid == os.getpid() and proc.pid not in LEADERS)
    # Known ones need no mark: a dying process loses its environment before its ports.
    roots = {proc.pid for proc in adopted if proc.pid in known or _carries_mark(proc, process)}
    roots |= {proc.pid for proc in table.values() if proc.session == process.pid}
    return [table[pid] for pid in with_descendants(roots, table) if not table[pid].dead]


def _carries_mark(proc: Proc, process: Process) -> bool:
    return environment_value(proc.pid, OWNER_VARIABLE) == process.mark


def _signal_all(process: Process, members: list[Proc], number: signal.Signals) -> None:
    """Signal the leader's group as one, so that no fork slips through, and the others one by one."""
    if any(member.group == process.pid for member in members):
        try:
            os.killpg(process.pid, number)
        except (ProcessLookupError, PermissionError):
            log.debug("process group is gone", group=process.pid)
    for member in members:
        if member.group != process.pid:
            kill(member.pid, number)


def _signal_strays(members: list[Proc], known: set[int]) -> None:
    """Ask those to end who slipped through when everybody was asked, and whose parents are gone.

    What a living parent starts after that belongs to the way it ends; and nobody is asked twice, which many
    programs take for "at once".
    """
    parents = {member.pid for member in members}
    for member in members:
        if member.pid not in known and member.ppid not in parents:
            kill(member.pid, signal.SIGTERM)
