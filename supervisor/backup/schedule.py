"""Backups that are made by themselves: when the next one is due, which old ones go, and a loop that sees to it."""

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import structlog

from supervisor.backup.contents import SCHEDULED
from supervisor.services.output import Output
from supervisor.services.process import Command, running

NAME = re.compile(rf"{SCHEDULED}([0-9]{{8}}-[0-9]{{6}})\.tar\.zst")
LOOK_EVERY = 60.0  # seconds; a clock that is set, or a machine that slept, is noticed that soon
AFTER_FAILURE = timedelta(hours=1)

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(frozen=True)
class Schedule:
    every: timedelta
    keep: int
    folder: Path


@dataclass
class BackingUp:
    """``problem`` is what keeps backups from being made, empty while all is well: for the health check."""

    schedule: Schedule
    data: Path
    environment: Mapping[str, str]
    output: Output
    problem: str = ""
    _failed: datetime | None = field(default=None, init=False)

    async def run(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """Make them until cancelled. A failure is said, and tried again within the hour."""
        while True:
            try:
                await self._look(now())
            except OSError as exc:
                self._fail(f"{exc.filename}: {exc.strerror}", now())
            await anyio.sleep(LOOK_EVERY)

    async def _look(self, now: datetime) -> None:
        before = await anyio.to_thread.run_sync(archives, self.schedule.folder)
        if now < due(before.values(), self._failed, self.schedule.every, now):
            return
        if code := await self._make():
            self._fail(f"exit code {code}", now)
            return
        self.problem, self._failed = "", None
        await anyio.to_thread.run_sync(prune, self.schedule, set(before))

    async def _make(self) -> int:
        """In a process of its own, which steps back for everybody else and can be ended at any moment."""
        argv = (sys.executable, "-m", "supervisor", "backup", "--scheduled", "--data", str(self.data))
        command = Command(argv, env={**self.environment, "CLAWLAMA_BACKUP_DIR": str(self.schedule.folder)})
        async with running(command, grace=1.0, output=self.output, owner=str(self.data)) as process:
            return await process.wait()

    def _fail(self, problem: str, now: datetime) -> None:
        self.problem, self._failed = f"the last backup failed ({problem}); see: clawlama logs backup", now
        log.warning("backup failed", problem=problem, remedy="clawlama logs backup says why; or try: clawlama backup")


def due(made: Iterable[datetime], failed: datetime | None, every: timedelta, now: datetime) -> datetime:
    """When the next one should be made. What lies in the future is of a wrong clock, and counts for nothing."""
    if failed is not None and failed <= now:
        return failed + min(every, AFTER_FAILURE)
    last = max((moment for moment in made if moment <= now), default=None)
    return now if last is None else last + every


def surplus(before: Iterable[str], keep: int) -> list[str]:
    """Which of the archives go that were made by themselves before the newest."""
    older = sorted(filter(NAME.fullmatch, before), reverse=True)
    return older[keep - 1 :]


def archives(folder: Path) -> dict[str, datetime]:
    """Archives there that were made by themselves, with their moments."""
    names = [path.name for path in folder.glob(f"{SCHEDULED}*")] if folder.is_dir() else []
    found = {name: match[1] for name in names if (match := NAME.fullmatch(name))}
    return {name: datetime.strptime(text, "%Y%m%d-%H%M%S").replace(tzinfo=UTC) for name, text in found.items()}


def prune(schedule: Schedule, before: Iterable[str]) -> None:
    """``before``: what was there before the newest was made."""
    for name in surplus(before, schedule.keep):
        (schedule.folder / name).unlink(missing_ok=True)
        log.info("removed an old backup", file=name, keep=schedule.keep)
