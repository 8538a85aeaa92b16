"""Merging an adapter into a copy of the weights, in a process of its own: numpy and much memory stay out of ours."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog
from pydantic import BaseModel, ValidationError

from supervisor.errors import RouteRefused
from supervisor.services.output import Output
from supervisor.services.process import Command, running

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class MergePlan(BaseModel, frozen=True, extra="ignore"):
    """What ``supervisor.distill.merge --plan`` leaves: bytes, or why it cannot be done."""

    size: int = 0
    problem: str | None = None


@dataclass(frozen=True)
class Merging:
    environment: Mapping[str, str]
    output: Output
    owner: str  # see services.reaper.sweep
    scratch: Path  # a folder for the answers

    async def check(self, base: Path, adapter: Path) -> None:
        """RouteRefused when the adapter is not one for this base; a server would only find out when it loads both."""
        await self._run(base, adapter, self.scratch / "none", "--check")

    async def size(self, base: Path, adapter: Path) -> int:
        """Bytes of the merged file. RouteRefused when the adapter does not fit the base."""
        plan = await self._run(base, adapter, self.scratch / "none", "--plan")
        return plan.size

    async def merge(self, base: Path, adapter: Path, out: Path, size: int) -> None:
        """Write ``out``, whole or not at all. RouteRefused says what went wrong."""
        log.info("merging the adapter into a copy of the weights", size=f"{size / 1e9:.2f} GB")
        await self._run(base, adapter, out)

    async def _run(self, base: Path, adapter: Path, out: Path, *options: str) -> MergePlan:
        answer = self.scratch / "merge.json"
        self.scratch.mkdir(parents=True, exist_ok=True)
        answer.unlink(missing_ok=True)
        argv = (sys.executable, "-m", "supervisor.distill.merge", *map(str, (base, adapter, out, answer)), *options)
        try:
            async with running(
                Command(argv, env=self.environment), output=self.output, owner=self.owner, grace=2.0
            ) as process:
                code = await process.wait()
            plan = MergePlan.model_validate_json(answer.read_text())
        except (OSError, ValidationError) as exc:
            raise RouteRefused(f"merging {adapter} into {base} was cut short; is there enough memory?") from exc
        finally:
            answer.unlink(missing_ok=True)
        if plan.problem is not None or code != 0:
            raise RouteRefused(plan.problem or f"merging {adapter} into {base} ended with code {code}")
        return plan
