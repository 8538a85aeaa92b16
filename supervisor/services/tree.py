"""All services: started in order, each when the last is ready; stopped in reverse, within one deadline."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import anyio
import structlog
from anyio.abc import TaskStatus

from supervisor.errors import ClawlamaError
from supervisor.services.reaper import adopt_orphans, keep_burying_orphans
from supervisor.services.service import Service
from supervisor.services.status import ServiceStatus

RESERVE: Final = 0.3  # seconds kept back for each service that is still to be stopped

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(eq=False)
class _Kept:
    """A started service, out of reach of cancellation from outside: only the tree decides when it ends."""

    service: Service
    scope: anyio.CancelScope = field(default_factory=lambda: anyio.CancelScope(shield=True))
    ended: anyio.Event = field(default_factory=anyio.Event)


@dataclass(eq=False)
class Tree:
    """Services that stand and fall together. Cancelling ``run`` stops them all."""

    services: Sequence[Service]
    stop_within: float = 8.0  # seconds for all of them; Docker kills after 10
    _kept: list[_Kept] = field(default_factory=list, init=False)
    _culprit: ClawlamaError | None = field(default=None, init=False)

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Start all, report ``started``, stay until cancelled.

        Raises what ended a service, after the others have been stopped.
        """
        adopt_orphans()
        self._kept, self._culprit = [], None
        async with anyio.create_task_group() as tg:
            tg.start_soon(keep_burying_orphans)
            with anyio.CancelScope() as up:
                try:
                    for service in self.services:
                        kept = _Kept(service)
                        self._kept.append(kept)
                        tg.start_soon(self._keep, kept, up)
                        await service.wait_ready()
                    task_status.started()
                    await anyio.sleep_forever()
                except ClawlamaError as exc:  # from wait_ready; the same that _keep sees
                    self._culprit = exc
                finally:
                    await self._stop()
            tg.cancel_scope.cancel()
        if self._culprit is not None:
            raise self._culprit

    def status(self) -> tuple[ServiceStatus, ...]:
        """Every service, in start order."""
        return tuple(service.status() for service in self.services)

    async def _keep(self, kept: _Kept, up: anyio.CancelScope) -> None:
        try:
            with kept.scope:
                await kept.service.run()
        except ClawlamaError as exc:
            log.warning("service given up, stopping the others", service=kept.service.name, reason=str(exc))
            self._culprit = self._culprit or exc
            up.cancel()
        finally:
            kept.ended.set()

    async def _stop(self) -> None:
        deadline = anyio.current_time() + self.stop_within
        with anyio.CancelScope(shield=True):
            for before, kept in reversed(list(enumerate(self._kept))):
                kept.service.hurry(deadline - anyio.current_time() - before * RESERVE)
                kept.scope.cancel()
                await kept.ended.wait()
