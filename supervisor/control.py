"""The buttons that API and signals press, over the service tree."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import anyio

from supervisor.api.control import Reloaded
from supervisor.errors import UnknownService
from supervisor.services.status import ServiceStatus

SHORTEST: Final = 1.0  # seconds between two looks that a CPU share is made of; the kernel counts in hundredths
LONGEST: Final = 60.0  # seconds; a look that lies further back says little about now


@dataclass(frozen=True)
class Look:
    """A process at one moment (monotonic seconds): CPU seconds so far, and the share they were said to be."""

    when: float
    cpu: float
    percent: float


@dataclass
class Shares:
    """CPU shares, of one core: since the last look, or since the process began where there was none lately."""

    _looks: dict[int, Look] = field(default_factory=dict)  # by pid

    def added(self, services: tuple[ServiceStatus, ...], now: float) -> tuple[ServiceStatus, ...]:
        """The same with ``cpu_percent``; forgets who is gone."""
        looks: dict[int, Look] = {}
        filled = []
        for one in services:
            if one.pid is not None and one.cpu is not None:
                look = looks[one.pid] = self._look(one.pid, one.cpu, one.uptime or 0.0, now)
                one = one.model_copy(update={"cpu_percent": look.percent})  # noqa: PLW2901
            filled.append(one)
        self._looks = looks
        return tuple(filled)

    def _look(self, pid: int, cpu: float, uptime: float, now: float) -> Look:
        last = self._looks.get(pid)
        if last is not None and now - last.when < SHORTEST:
            return last
        if last is not None and now - last.when <= LONGEST:
            spent, seconds = cpu - last.cpu, now - last.when
        else:
            spent, seconds = cpu, max(uptime, SHORTEST)
        return Look(now, cpu, round(max(0.0, 100 * spent / seconds), 1))


@dataclass(frozen=True)
class Controls:
    """The API's ``Control``. ``restart_one`` returns when the service is ready again."""

    status: Callable[[], tuple[ServiceStatus, ...]]
    restart_one: Callable[[str], Awaitable[None]]
    stop_all: Callable[[], None]
    reload_all: Callable[[], Awaitable[Reloaded]]
    _shares: Shares = field(default_factory=Shares)

    def services(self) -> tuple[ServiceStatus, ...]:
        return self._shares.added(self.status(), anyio.current_time())

    async def restart(self, name: str) -> ServiceStatus:
        known = tuple(one.name for one in self.status())
        if name not in known:
            raise UnknownService(name, known)
        await self.restart_one(name)
        return next(one for one in self.services() if one.name == name)

    def stop(self) -> None:
        self.stop_all()

    async def reload(self) -> Reloaded:
        return await self.reload_all()
