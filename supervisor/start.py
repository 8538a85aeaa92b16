"""How far the start is and how everything fares since: what the health check says."""

import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from supervisor.api.status import Phase, StackStatus
from supervisor.api.turns import Turns
from supervisor.services.service import Service
from supervisor.services.status import ServiceStatus
from supervisor.serving import Serving

Tell = Callable[[str], None]  # one line for a person who watches us start

TROUBLE = {"hanging", "backing_off", "failed", "stopped"}
SERVES = {"ready", "done"}

# Seconds without any change after which what is on its way counts as stuck. A start may load a large model from a slow
# disk or read a long prompt on a slow CPU; the service that is started has a deadline of its own.
PULL_STALLS = 180.0
START_STALLS = 1000.0
RESTART_STALLS = 10.0  # two failed checks follow, 8 s apart: unhealthy within 30


class Learns(Protocol):
    """What is asked of the learning loop: the lesson under way."""

    teaching_now: str | None


@dataclass
class Start:
    """Boot moves ``phase`` on; ``problem`` is what keeps it degraded; ``turns`` tells whether replies come."""

    phase: Phase = "starting"
    problem: str = ""
    turn_failed: str = ""  # what a whole turn of our own through OpenClaw came to, until one works
    turns: Turns = field(default_factory=Turns)
    clock: Callable[[], float] = time.monotonic
    _learning: Learns | None = field(default=None, init=False)
    _seen: tuple[Hashable, float] = field(default=(None, 0.0), init=False)  # what was on its way, and since when

    def finished(self, learning: Learns) -> None:
        self.phase, self._learning = "ready", learning

    def status(self, serving: Serving, services: Sequence[Service]) -> StackStatus:
        found = tuple(service.status() for service in services)
        phase, reason = self._moment(serving.doing, serving.trouble, found)
        failing = broken(found) or self._stuck(phase, reason, serving, found) or serving.trouble or self._turns_fail
        return StackStatus(phase, reason, services=found, downloads=serving.downloads, failing=failing)

    def _moment(self, doing: str, trouble: str, services: Sequence[ServiceStatus]) -> tuple[Phase, str]:
        if troubled := [service for service in services if service.state in TROUBLE]:
            return "degraded", "; ".join(map(trouble_of, troubled))
        if self.phase == "starting":
            return ("pulling" if doing.startswith("pulling ") else "starting"), doing
        if self.phase == "warming":
            return "warming", "reading OpenClaw's prompt"
        if self._teaching:
            return "learning", ""
        if any(service.state not in SERVES for service in services):
            return "starting", ""
        problem = trouble or self._turns_fail or self.problem
        return ("degraded", problem) if problem else ("ready", "")

    def _stuck(self, phase: Phase, reason: str, serving: Serving, services: Sequence[ServiceStatus]) -> str:
        """That nothing has moved for too long; empty while it moves, or nothing has to."""
        states = tuple(service.state for service in services)
        if serving.pulled is not None:
            return self._still(("pulling", serving.pulled), PULL_STALLS, reason)
        if self._learning is None:
            return self._still((phase, reason, states), START_STALLS, f"{phase} {reason}".strip())
        waiting = [service.name for service in services if service.state not in SERVES]
        if waiting and not self._teaching:
            return self._still("restarting", RESTART_STALLS, f"waiting for {', '.join(waiting)}")
        self._seen = (None, 0.0)
        return ""

    def _still(self, now_at: Hashable, patience: float, words: str) -> str:
        now = self.clock()
        if now_at != self._seen[0]:
            self._seen = (now_at, now)
        since = now - self._seen[1]
        return f"{words}: nothing has moved for {since:.0f} s" if since > patience else ""

    @property
    def _turns_fail(self) -> str:
        return self.turns.trouble or self.turn_failed

    @property
    def _teaching(self) -> bool:
        """The engine may rest in a lesson, on purpose."""
        return self._learning is not None and self._learning.teaching_now is not None


def broken(services: Sequence[ServiceStatus]) -> str:
    """Which services that a turn needs are in trouble."""
    return "; ".join(trouble_of(one) for one in services if one.essential and one.state in TROUBLE)


def trouble_of(service: ServiceStatus) -> str:
    said = f" ({service.problem})" if service.problem else ""
    return f"{service.name} is {service.state.replace('_', ' ')}{said}"
