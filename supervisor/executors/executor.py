"""Somewhere a lesson can run: this machine, later a Ray cluster, Modal, Tinker."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from supervisor.distill.job import DistillJob, DistillResult, Progress

OnProgress = Callable[[Progress], Awaitable[None]]


class Executor(Protocol):
    async def run(self, job: DistillJob, on_progress: OnProgress) -> DistillResult:
        """Train; the adapter's files are in ``job.out`` on return. Raises DistillFailed. Cancelling stops the work."""
        ...
