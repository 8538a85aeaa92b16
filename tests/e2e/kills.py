"""SIGKILL at random moments, after a plan that is spread over several lives of one data folder."""

import os
import random
import signal
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import anyio

from supervisor.services.status import ServiceStatus, State
from tests.e2e.product import PATIENCE, Life, Place

LATEST = {"engine": 2.0, "openclaw": 8.0}  # seconds that it may live on once it is ready; a turn takes its time


@dataclass(frozen=True)
class LifePlan:
    """How often each is killed in one life, and what the supervisor is doing when its own turn comes."""

    ending: Literal["starting", "publishing", "anything"]
    engine: int = 0
    worker: int = 0
    openclaw: int = 0


@dataclass
class Killer:
    """``counts`` says who was killed, over all lives."""

    place: Place
    chance: random.Random
    counts: Counter[str] = field(default_factory=Counter)

    async def run(self, life: Life, plan: LifePlan) -> None:
        """Carry one life's plan out; the supervisor is dead afterwards."""
        starting = plan.ending == "starting"
        async with anyio.create_task_group() as tg:
            tg.start_soon(self._service, life, "engine", "ready", plan.engine)
            tg.start_soon(self._service, life, "openclaw", "starting" if starting else "ready", plan.openclaw)
            if not starting:
                await life.ready()
                tg.start_soon(self._workers, plan.worker)
        await self._moment(life, plan)
        assert life.process.returncode is None, f"it ended: {life.last_words()}"
        life.process.kill()
        await life.process.wait()
        self.counts["supervisor"] += 1

    async def _service(self, life: Life, name: str, state: State, times: int) -> None:
        killed = None
        for _ in range(times):
            killed = (await life.service(name, partial(due, state=state, last=killed))).pid
            assert killed is not None
            await anyio.sleep(self.chance.uniform(0, LATEST[name]))
            kill = self.chance.choice((os.kill, os.killpg))  # the process, or all of its group
            try:
                kill(killed, signal.SIGKILL)
            except ProcessLookupError:  # replaced meanwhile, for a new version
                continue
            self.counts[name] += 1

    async def _workers(self, times: int) -> None:
        seen: set[int] = set()
        killed = 0
        while killed < times:
            new = set(self.place.trainers()) - seen
            seen |= new
            await anyio.sleep(self.chance.uniform(0, 4) if new else 0.05)
            for pid in new & set(self.place.trainers()):
                os.kill(pid, signal.SIGKILL)
                killed += 1
                self.counts["worker"] += 1

    async def _moment(self, life: Life, plan: LifePlan) -> None:
        if plan.ending == "publishing":
            with anyio.fail_after(PATIENCE):
                while not publishing(await life.health()):  # noqa: ASYNC110 - nothing announces it that soon
                    await anyio.sleep(0.02)
            await anyio.sleep(self.chance.uniform(0, 1.5))
        else:
            await anyio.sleep(self.chance.uniform(0, 6))


def due(service: ServiceStatus, *, state: str, last: int | None) -> bool:
    return service.state == state and service.pid not in {None, last}


def publishing(health: dict[str, object]) -> bool:
    lessons = health["lessons"]
    assert isinstance(lessons, dict)
    return lessons["running"] is not None and lessons["running"]["state"] == "publishing"
