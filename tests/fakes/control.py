"""The buttons of a supervisor, which note that they were pressed, over one service."""

from dataclasses import dataclass, field

from supervisor.api.control import Reloaded
from supervisor.services.status import ServiceStatus

ENGINE = ServiceStatus(
    name="engine",
    state="ready",
    pid=7,
    restarts=2,
    uptime=60.0,
    ready_after=0.8,
    last_exit=-9,
    rss=2**20,
    cpu=3.5,
    cpu_percent=5.8,
)


@dataclass
class Pressed:
    """Notes which buttons were pressed."""

    buttons: list[str] = field(default_factory=list)
    problem: Exception | None = None

    def services(self) -> tuple[ServiceStatus, ...]:
        return (ENGINE,)

    async def restart(self, name: str) -> ServiceStatus:
        self._press(f"restart {name}")
        return ENGINE

    def stop(self) -> None:
        self._press("stop")

    async def reload(self) -> Reloaded:
        self._press("reload")
        return Reloaded(changed=("CLAWLAMA_LEAN",), restarted=("openclaw",), needs_restart=())

    def _press(self, button: str) -> None:
        if self.problem is not None:
            raise self.problem
        self.buttons.append(button)
