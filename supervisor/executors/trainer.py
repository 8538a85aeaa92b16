"""A trainer process: started for one lesson, or kept for those that follow soon.

It is told over a socket that only the two of us hold, so whatever a library prints is output and nothing else, and
our end, however sudden, is its end.
"""

import asyncio
import math
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import structlog
from anyio.abc import TaskGroup, TaskStatus

from supervisor.distill.job import PROGRESS, Progress
from supervisor.executors.executor import OnProgress
from supervisor.services.output import Output
from supervisor.services.proc import snapshot
from supervisor.services.process import Command, Process, running

POLL = 0.1  # seconds between looks at the progress file
NICE = 10  # a tenth of a core that a reply wants too, all of one that nobody wants
MIB = 2**20

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(frozen=True)
class Around:
    """What a trainer is started in. Another one means another process."""

    scratch: Path
    environment: Mapping[str, str]
    output: Output
    owner: str  # see services.reaper.sweep


@dataclass(frozen=True)
class Trainer:
    process: Process
    link: socket.socket

    async def teach(self, folder: Path, on_progress: OnProgress) -> int:
        """0 when the lesson in this job folder went well, and the trainer may stay; else the code of its end."""
        async with anyio.create_task_group() as tg:
            tg.start_soon(follow, folder / PROGRESS, on_progress)
            code = await self._told(folder)
            tg.cancel_scope.cancel("the lesson ended")
        return code

    async def _told(self, folder: Path) -> int:
        line = f"{folder}\n".encode()
        with suppress(OSError):  # it has ended: its code will say so
            await asyncio.get_running_loop().sock_sendall(self.link, line)
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tg:
                tg.start_soon(self._heard, line, scope)
                return await self.process.wait()
        return 0

    async def _heard(self, line: bytes, scope: anyio.CancelScope) -> None:
        """Cancel the scope when the line comes back."""
        heard = b""
        while heard != line:
            with suppress(ConnectionError):
                if more := await asyncio.get_running_loop().sock_recv(self.link, len(line) - len(heard)):
                    heard += more
                    continue
            return
        scope.cancel("the lesson is done")


@asynccontextmanager
async def started(around: Around) -> AsyncIterator[Trainer]:
    """A trainer that waits for lessons; it and its temporary folder (torch leaves a cache there) go with the block."""
    async with AsyncExitStack() as stack:
        own = stack.enter_context(TemporaryDirectory(dir=around.scratch, prefix="trainer-", ignore_cleanup_errors=True))
        ours, theirs = socket.socketpair()
        stack.enter_context(ours).setblocking(False)
        with theirs:
            argv = (sys.executable, "-m", "supervisor.distill", "--worker", str(theirs.fileno()))
            command = Command(argv, env={**around.environment, "TMPDIR": own}, nice=NICE)
            link = {"TRAINER_LINK": theirs.fileno()}
            process = await stack.enter_async_context(
                running(command, grace=2.0, output=around.output, owner=around.owner, descriptors=link)
            )
        yield Trainer(process, ours)


@dataclass
class Kept:
    """A trainer in a task of its own, which ends it when ``scope`` is cancelled, by hand or by its deadline."""

    around: Around
    trainer: Trainer
    scope: anyio.CancelScope
    gone: anyio.Event

    def fits(self, around: Around) -> bool:
        self.trainer.process.look()  # it may have ended just now
        return self.around == around and not self.scope.cancel_called and self.trainer.process.returncode is None

    async def end(self) -> None:
        """Return when its memory is free."""
        self.scope.cancel("the trainer is not needed any more")
        with anyio.CancelScope(shield=True):
            await self.gone.wait()


@dataclass
class Warm:
    """Keeps the last trainer for ``seconds`` after a lesson, in ``tasks``, which end it when they are cancelled."""

    tasks: TaskGroup
    seconds: float
    _kept: Kept | None = field(default=None, init=False)
    _turn: anyio.Lock = field(default_factory=anyio.Lock, init=False)

    @asynccontextmanager
    async def lent(self, around: Around) -> AsyncIterator[Trainer]:
        """The trainer that is there if it fits, else a new one. It ends at once when the block does not end well."""
        async with self._turn:
            kept = await self._fitting(around)
            kept.scope.deadline = math.inf
            try:
                yield kept.trainer
            except BaseException:
                await kept.end()
                raise
            if kept.trainer.process.returncode is not None:
                await kept.end()
                return
            kept.scope.deadline = anyio.current_time() + self.seconds
            log.info("trainer warm", seconds=self.seconds, mib=memory(kept.trainer) // MIB)

    async def _fitting(self, around: Around) -> Kept:
        if self._kept is not None:
            if self._kept.fits(around):
                return self._kept
            await self._kept.end()
        self._kept = await self.tasks.start(self._keep, around)
        return self._kept

    async def _keep(self, around: Around, *, task_status: TaskStatus[Kept]) -> None:
        gone = anyio.Event()
        try:
            with anyio.CancelScope() as scope:
                async with started(around) as trainer:
                    task_status.started(Kept(around, trainer, scope, gone))
                    await trainer.process.wait()
        finally:
            gone.set()
        log.info("trainer ended", code=trainer.process.returncode)


def memory(trainer: Trainer) -> int:
    """Bytes that its process has in memory."""
    found = snapshot().get(trainer.process.pid)
    return 0 if found is None else found.rss


async def follow(path: Path, on_progress: OnProgress) -> None:
    """Pass each whole line of a growing file on, until cancelled."""
    seen = 0
    while True:
        await anyio.sleep(POLL)
        if not path.exists():
            continue
        *lines, _unfinished = path.read_bytes()[seen:].split(b"\n")
        for line in lines:
            seen += len(line) + 1
            await on_progress(Progress.model_validate_json(line))
