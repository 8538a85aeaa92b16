"""Runs a lesson in a child process of this machine: cancelling works, and all memory comes back when it ends."""

import os
import shutil
import sys
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import anyio
from pydantic import ValidationError

from supervisor.distill.job import FAILURE, JOB, PROGRESS, RESULT, DistillFailure, DistillJob, DistillResult, Progress
from supervisor.errors import DistillFailed, TrainerKilled
from supervisor.executors.executor import OnProgress
from supervisor.services.output import Output
from supervisor.services.process import Command, running

POLL = 0.1  # seconds between looks at the progress file


@dataclass(frozen=True)
class LocalExecutor:
    """``scratch`` holds one folder per job, gone when the job ends. ``complete``: asked at each lesson, for by then a
    torch for the GPU may have come.
    """

    scratch: Path
    environment: Mapping[str, str]
    output: Output
    owner: str  # see services.reaper.sweep
    complete: Callable[[Mapping[str, str]], Mapping[str, str]] = dict

    async def run(self, job: DistillJob, on_progress: OnProgress) -> DistillResult:
        folder = self.scratch / job.id
        try:
            prepare(folder, job)
            argv = (sys.executable, "-m", "supervisor.distill", str(folder))
            kept = bytecode(self.environment.get("HOME"), Path(sysconfig.get_path("purelib")))
            env = {**self.complete(self.environment), **kept, "TMPDIR": str(folder)}  # torch leaves a cache there
            command = Command(argv, env=env)
            async with (
                running(command, grace=2.0, output=self.output, owner=self.owner) as process,
                anyio.create_task_group() as tg,
            ):
                tg.start_soon(follow, folder / PROGRESS, on_progress)
                code = await process.wait()
                tg.cancel_scope.cancel("the trainer ended")
            return outcome(job, folder, code)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def bytecode(home: str | None, packages: Path) -> dict[str, str]:
    """Where compiled modules are kept that cannot lie beside their sources, as in the image; saves a lesson 6 s."""
    return {} if home is None or os.access(packages, os.W_OK) else {"PYTHONPYCACHEPREFIX": f"{home}/.cache/python"}


def prepare(folder: Path, job: DistillJob) -> None:
    """A new folder with the job in it. DistillFailed when the disk does not take it."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / JOB).write_text(job.model_dump_json())
    except OSError as exc:
        raise DistillFailed(job.id, f"{folder} cannot be written: {exc.strerror}") from exc


def outcome(job: DistillJob, folder: Path, code: int) -> DistillResult:
    """The result that the trainer left. Raises DistillFailed with what it said, TrainerKilled if a signal ended it."""
    if code < 0:
        raise TrainerKilled(
            job.id, f"the trainer was ended by signal {-code} and left no result; is there too little memory?"
        )
    try:
        if code == 0:
            return DistillResult.model_validate_json((folder / RESULT).read_text())
        problem = DistillFailure.model_validate_json((folder / FAILURE).read_text()).problem
    except (FileNotFoundError, ValidationError) as exc:
        raise DistillFailed(
            job.id, f"the trainer ended with code {code} and left no result; its output is in the log folder"
        ) from exc
    raise DistillFailed(job.id, problem)


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
