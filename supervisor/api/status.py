"""How everything fares at one moment, as health, metrics and pages show it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from supervisor.services.status import ServiceStatus

Phase = Literal["starting", "pulling", "warming", "ready", "learning", "degraded", "stopping"]


@dataclass(frozen=True)
class StackStatus:
    """One moment of everything that runs; ``reason`` says why the phase is not ``ready``, else it is empty."""

    phase: Phase
    reason: str = ""
    services: tuple[ServiceStatus, ...] = ()
    downloads: Mapping[str, str] = field(default_factory=dict)  # further models on their way: how far, or what is wrong
    failing: str = ""  # why a turn would fail now and nothing is on its way; empty while all is well or comes along

    @property
    def moment(self) -> str:
        """For people; a reason such as "pulling qwen3:8b 43 %" names the phase by itself."""
        if self.reason.startswith(self.phase):
            return self.reason
        return f"{self.phase}: {self.reason}" if self.reason else self.phase
