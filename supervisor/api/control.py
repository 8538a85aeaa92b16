"""What the API can do with the processes behind it; boot gives it the means."""

from typing import Protocol

from pydantic import BaseModel

from supervisor.services.status import ServiceStatus


class Reloaded(BaseModel, frozen=True, extra="forbid"):
    """What came of reading the settings again. All three are empty when nothing has changed."""

    changed: tuple[str, ...]  # names of settings
    restarted: tuple[str, ...]  # services that read them, restarted by now
    needs_restart: tuple[str, ...]  # changed settings that only a whole restart applies


class Control(Protocol):
    def services(self) -> tuple[ServiceStatus, ...]:
        """Every service in start order."""
        ...

    async def restart(self, name: str) -> ServiceStatus:
        """Return when it is ready again. UnknownService for another name, ServiceError when it does not come back."""
        ...

    def stop(self) -> None:
        """Ask for the end of everything; returns at once."""
        ...

    async def reload(self) -> Reloaded:
        """Read the settings again and restart what read those that changed. SettingsError when they do not parse."""
        ...
