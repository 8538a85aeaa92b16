"""All services: each starts when what it needs is ready, and stops when nothing needs it any more, in one deadline."""

import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

import anyio
import structlog
from anyio.abc import TaskGroup

from supervisor.errors import ClawlamaError, ServiceError, UnknownService
from supervisor.services.reaper import adopt_orphans, keep_burying_orphans
from supervisor.services.service import Service, unmet
from supervisor.services.status import ServiceStatus

RESERVE: Final = 0.5  # seconds kept back for each service that is to be stopped after another
LEAST: Final = 1.0  # seconds for the services, however long the block took to end

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@asynccontextmanager
async def supervised(*, stop_within: float = 8.0) -> AsyncIterator["Tree"]:
    """A tree to start services in; they are gone when the block ends, all of them within so many seconds.

    An essential service that is given up cancels the block; its error is raised once the others have been stopped.
    Cancelled from outside, the services are stopped in order all the same. The seconds count from the cancellation:
    what the block takes to end after it is theirs, too.
    """
    adopt_orphans()
    tasks, block = anyio.create_task_group(), anyio.CancelScope()
    tree = Tree(tasks, block)
    try:
        async with tasks:
            tasks.start_soon(tree.bury_orphans)
            with block:
                try:
                    yield tree
                except ClawlamaError as exc:
                    tree.fall(exc)
                finally:
                    await tree.stop(stop_within)
            tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        if tree.culprit is None or group.split(ClawlamaError)[1] is not None:
            raise
        raise tree.culprit from group
    if tree.culprit is not None:
        raise tree.culprit


@dataclass(eq=False)
class _Kept:
    """A started service, out of reach of cancellation from outside: only the tree decides when it ends."""

    service: Service
    scope: anyio.CancelScope = field(default_factory=lambda: anyio.CancelScope(shield=True))
    ended: anyio.Event = field(default_factory=anyio.Event)


class Tree:
    """Services that stand and fall together; made by ``supervised``."""

    def __init__(self, tasks: TaskGroup, block: anyio.CancelScope) -> None:
        self.culprit: ClawlamaError | None = None  # why the block was cancelled
        self._tasks = tasks
        self._block = block
        self.ending_since = math.inf  # on the event loop's clock
        self._kept: dict[str, _Kept] = {}
        self._stopping = False
        self._restarting = anyio.Lock()

    @property
    def services(self) -> Mapping[str, Service]:
        """By name, in start order."""
        return MappingProxyType({name: kept.service for name, kept in self._kept.items()})

    def status(self) -> tuple[ServiceStatus, ...]:
        """Every service, in start order."""
        return tuple(kept.service.status() for kept in self._kept.values())

    async def start(self, *services: Service) -> None:
        """Keep them up from now on; return when they are ready. An optional one may have been given up instead.

        What one needs must be in the tree, or stand before it; beyond that they start at the same time. Raises
        ServiceError when that is not so, CrashLoop and its kin when an essential one is given up.
        """
        for service in services:
            self._check(service)
            self._keep_up(service)
        for service in services:
            try:
                await service.wait_ready()
            except ClawlamaError:
                if service.essential or self._stopping:
                    raise

    async def restart(self, name: str, *, dependants: bool = False) -> None:
        """Replace its process, or start it anew if it was given up; return when it is ready.

        ``dependants``: what needs it is stopped before and started after. Raises UnknownService, and what
        ``Service.restart`` raises.
        """
        if name not in self._kept:
            raise UnknownService(name, tuple(self._kept))
        if not dependants:
            await self._again(self._kept[name])
            return
        async with self._restarting:  # another one would resume what this one has paused
            await self._again_with(self._kept[name], self._above(name))

    async def stop(self, within: float) -> None:
        """End them all: those that nothing needs first. Cancellation does not shorten it."""
        self._stopping = True
        now = anyio.current_time()
        deadline = stop_deadline(now, self.ending_since, within)
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as tg:
                for kept in self._kept.values():
                    tg.start_soon(self._stop, kept, deadline)

    def fall(self, error: ClawlamaError) -> None:
        """Cancel the block; the first reason counts."""
        self.culprit = self.culprit or error
        self._note_end()
        self._block.cancel("a service was given up")

    async def bury_orphans(self) -> None:
        """Until the block is cancelled; the moment is noted."""
        try:
            await keep_burying_orphans()
        finally:
            self._note_end()

    def _note_end(self) -> None:
        self.ending_since = min(self.ending_since, anyio.current_time())

    def _check(self, service: Service) -> None:
        if self._stopping:
            raise ServiceError(service.name, "is not started: everything is being stopped")
        if service.name in self._kept:
            raise ServiceError(service.name, "is in the tree already; restart it instead")
        if missing := [need for need in service.needs if need not in self._kept]:
            raise ServiceError(service.name, f"needs {', '.join(missing)}; start that before")

    def _keep_up(self, service: Service) -> None:
        service.renew()
        kept = self._kept[service.name] = _Kept(service)
        self._tasks.start_soon(self._keep, kept)

    async def _keep(self, kept: _Kept) -> None:
        service = kept.service
        try:
            with kept.scope:
                await service.run([self._kept[need].service for need in service.needs])
        except ClawlamaError as exc:
            self._given_up(service, exc)
        finally:
            kept.ended.set()

    def _given_up(self, service: Service, error: ClawlamaError) -> None:
        if service.essential:
            log.error("service given up, stopping the others", service=service.name, reason=str(error))
            self.fall(error)
            return
        log.warning("service given up, the others stay", service=service.name, reason=str(error))
        for kept in self._kept.values():
            if service.name in kept.service.needs:
                kept.service.give_up(unmet(kept.service.name, service.name, error))

    async def _again(self, kept: _Kept) -> None:
        if kept.ended.is_set() and not self._stopping:
            self._keep_up(kept.service)
            await kept.service.wait_ready()
        else:
            await kept.service.restart()

    async def _again_with(self, kept: _Kept, above: list[_Kept]) -> None:
        """``above``: what needs it, in start order. What somebody else has paused stays so."""
        above = [one for one in above if one.service.status().state != "paused"]
        try:
            for one in reversed(above):
                if not one.ended.is_set():
                    await one.service.pause()
            await self._again(kept)
            for one in above:
                await (self._again(one) if one.ended.is_set() else one.service.resume())
        finally:
            for one in above:
                one.service.unpause()

    def _above(self, name: str) -> list[_Kept]:
        found: dict[str, _Kept] = {}
        for other, kept in self._kept.items():
            if any(need == name or need in found for need in kept.service.needs):
                found[other] = kept
        return list(found.values())

    async def _stop(self, kept: _Kept, deadline: float) -> None:
        for other in self._above(kept.service.name):
            await other.ended.wait()
        kept.service.hurry(deadline - anyio.current_time() - self._depth(kept.service) * RESERVE)
        kept.scope.cancel()
        await kept.ended.wait()

    def _depth(self, service: Service) -> int:
        """How many are to be stopped one after the other when this one has ended."""
        return max((1 + self._depth(self._kept[need].service) for need in service.needs), default=0)


def stop_deadline(now: float, ending_since: float, within: float) -> float:
    """When all must be gone: moments of one clock, and seconds."""
    return max(min(ending_since, now) + within, now + min(LEAST, within))
