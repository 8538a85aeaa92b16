"""Runs a lesson in a child process of this machine: cancelling works, and all memory comes back when that ends."""

import os
import shutil
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from supervisor.distill.job import FAILURE, JOB, RESULT, DistillFailure, DistillJob, DistillResult
from supervisor.errors import DistillFailed, TrainerKilled
from supervisor.executors.executor import OnProgress
from supervisor.executors.trainer import Around, Warm, started
from supervisor.services.output import Output

SETTLED = {
    "HF_HUB_OFFLINE": "1",
    "PYTHONWARNINGS": "ignore::FutureWarning",
    "GOMP_SPINCOUNT": "2000",  # a thread that waits for another soon sleeps: its core is for whoever answers meanwhile
    "PYTHONHASHSEED": "0",  # a set of words, once written, has the same order in all trainers
}


@dataclass(frozen=True)
class LocalExecutor:
    """``scratch`` holds one folder per job, gone when the job ends. ``complete``: asked at each lesson, for by then a
    torch for the GPU may have come. ``warm``: who keeps the trainer between lessons; None: each has its own.
    """

    scratch: Path
    environment: Mapping[str, str]
    output: Output
    owner: str  # see services.reaper.sweep
    complete: Callable[[Mapping[str, str]], Mapping[str, str]] = dict
    warm: Warm | None = None

    async def run(self, job: DistillJob, on_progress: OnProgress) -> DistillResult:
        folder = self.scratch / job.id
        try:
            prepare(folder, job)
            environment = trainer_environment(self.complete(self.environment), job.threads)
            around = Around(self.scratch, environment, self.output, self.owner)
            async with started(around) if self.warm is None else self.warm.lent(around) as trainer:
                code = await trainer.teach(folder, on_progress)
            return outcome(job, folder, code)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def trainer_environment(around: Mapping[str, str], threads: int) -> dict[str, str]:
    """``around`` with what a trainer must find at its start: torch asks for some of it once only."""
    kept = bytecode(around.get("HOME"), Path(sysconfig.get_path("purelib")))
    return {**around, **kept, **SETTLED, "OMP_NUM_THREADS": str(threads)}


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
