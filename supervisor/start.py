"""How far the start is and how everything fares since: what the health check says."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from supervisor.api.context import Phase, StackStatus
from supervisor.services.service import Service
from supervisor.services.status import ServiceStatus
from supervisor.serving import Serving

Tell = Callable[[str], None]  # one line for a person who watches us start

TROUBLE = {"backing_off", "failed", "stopped"}


class Learns(Protocol):
    """What is asked of the learning loop: the lesson under way."""

    teaching_now: str | None


@dataclass
class Start:
    """Boot moves ``phase`` on; ``problem`` is what keeps it degraded."""

    phase: Phase = "starting"
    problem: str = ""
    _learning: Learns | None = field(default=None, init=False)

    def finished(self, learning: Learns) -> None:
        self.phase, self._learning = "ready", learning

    def status(self, serving: Serving, services: Sequence[Service]) -> StackStatus:
        found = tuple(service.status() for service in services)
        phase, reason = self._moment(serving.doing, serving.trouble, found)
        return StackStatus(phase=phase, reason=reason, services=found, downloads=serving.downloads)

    def _moment(self, doing: str, trouble: str, services: Sequence[ServiceStatus]) -> tuple[Phase, str]:
        troubled = [service for service in services if service.state in TROUBLE]
        if troubled:
            return "degraded", "; ".join(f"{one.name} is {one.state.replace('_', ' ')}" for one in troubled)
        if self.phase == "starting":
            return ("pulling" if doing.startswith("pulling ") else "starting"), doing
        if self.phase == "warming":
            return "warming", "reading OpenClaw's prompt"
        if self._learning is not None and self._learning.teaching_now is not None:
            return "learning", ""
        if any(service.state != "ready" for service in services):
            return "starting", ""
        problem = trouble or self.problem
        return ("degraded", problem) if problem else ("ready", "")
