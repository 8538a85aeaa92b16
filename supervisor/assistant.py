"""The only place where what was made is started and joined: door, engine, API, OpenClaw, learning loop."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

import anyio
import structlog
from anyio.abc import TaskStatus

from supervisor.api.control import Control, Reloaded
from supervisor.api.status import StackStatus
from supervisor.backup.contents import BACKUPS
from supervisor.backup.schedule import BackingUp, Schedule
from supervisor.control import Controls
from supervisor.errors import ClawlamaError, SettingsError
from supervisor.gateway.door import keep_door
from supervisor.made import Made
from supervisor.packs.pack import Pack
from supervisor.plan.plan import Plan
from supervisor.preflight import door_host
from supervisor.reload import Reloading
from supervisor.running import write_running
from supervisor.services.service import Service
from supervisor.services.tree import Tree, supervised
from supervisor.serving import Serving
from supervisor.settings.settings import Settings
from supervisor.settings.sources import child_environment
from supervisor.stack import GATEWAY
from supervisor.start import Learns, Start, Tell

if TYPE_CHECKING:
    from supervisor.first_turn import FirstTurn
    from supervisor.front import Front

# Seconds from the signal to the end of OpenClaw and the engine; a lesson and the API, which end first, have at most 6
# of them. Docker kills after 10.
STOP_WITHIN = 7.0
TELL_EVERY = 10.0  # seconds between two lines about a download

log = structlog.get_logger()


class Rests(Protocol):
    """Of an engine: what is needed to replace its process."""

    async def rest(self) -> None: ...

    async def wake(self) -> None: ...


@dataclass(frozen=True)
class Hands:
    """What whoever starts it gives along."""

    tell: Tell
    stop: Callable[[], None]  # asks for the end of everything, as SIGTERM does
    read: Callable[[], Settings]  # the settings again, from where they came


@dataclass(frozen=True)
class Up:
    """What is known once everything is up."""

    plan: Plan
    prompt_tokens: int | None  # of OpenClaw's prompt, which the model has read; None when that failed
    prompt_s: float | None  # what that reading took
    reload: Callable[[], Awaitable[Reloaded]]


class Assistant:
    """On its way up, in the block of ``up``."""

    def __init__(self, made: Made, hands: Hands) -> None:
        self.made = made
        self.hands = hands
        self.start = Start()
        self.plan: Plan | None = None  # once OpenClaw runs by it
        self.backups = backing_up(made)
        self.services: list[Service] = [made.gateway.service]

    @asynccontextmanager
    async def up(self) -> AsyncIterator[Up]:
        """Everything is up inside the block. Started in the order of need, stopped in reverse."""
        made = self.made
        async with made.serving.engine, supervised(stop_within=STOP_WITHIN) as tree, anyio.create_task_group() as tg:
            reloading = Reloading(made.settings, self.hands.read, partial(self.follow, tree))
            if (engine := made.serving.engine.service) is not None:  # known once the engine was entered
                self.services.insert(0, engine)
                made.gateway.service.needs = (engine.name,)
                tg.start_soon(self.start_service, tree, engine)
            await tg.start(self.keep_door)
            async with await self.front(self.controls(tree, reloading)) as front:
                plan, first = await self.served(tree, front)
                learning = front.learning(plan)
                self.start.finished(learning)
                async with anyio.create_task_group() as beside:
                    beside.start_soon(learning.run)
                    beside.start_soon(first.until_one_works, plan)
                    beside.start_soon(made.serving.beside)
                    beside.start_soon(made.packs.keep_installed, partial(self.landed, tree, learning))
                    if self.backups is not None:
                        beside.start_soon(self.backups.run)
                    yield Up(plan, front.warm_up.prompt_tokens, front.warm_up.seconds, reloading.reload)
                    beside.cancel_scope.cancel()
            tg.cancel_scope.cancel()

    async def front(self, control: Control) -> "AbstractAsyncContextManager[Front]":
        """Journal, API and learning: half of our imports, in the time that the engine needs anyway."""

        def load() -> "Callable[..., AbstractAsyncContextManager[Front]]":
            from supervisor.front import front  # noqa: PLC0415 - see above

            return front

        return (await anyio.to_thread.run_sync(load))(self.made, self.start, self.status, control)

    async def served(self, tree: Tree, front: "Front") -> "tuple[Plan, FirstTurn]":
        """The model serves, then OpenClaw, and a first turn was taken: the plan by which they do."""
        made, tell = self.made, self.hands.tell
        write_running(made.data, made.running.model_copy(update={"ready": False}))
        tell(f"API on {made.running.api_url}; next the model, then OpenClaw (the slow one)")
        plan = await self.prepared(front)
        made.gateway.prepare()
        tell("OpenClaw's configuration")
        await made.gateway.write(plan)
        await self.start_service(tree, made.gateway.service)
        first = front.first_turn(tell, partial(self.rewrite, tree))
        self.plan = await first.take(plan, may_trim=made.settings.lean == "auto")
        return self.plan, first

    async def prepared(self, front: "Front") -> Plan:
        """Wait until the model serves, saying what takes so long."""
        async with anyio.create_task_group() as tg:
            tg.start_soon(tell_doing, self.made.serving, self.hands.tell)
            ready = await self.made.serving.prepare(lambda version: partial(front.is_live, version))
            tg.cancel_scope.cancel()
        self.start.problem = ready.problem
        for reason in ready.plan.reasons:
            log.debug("plan", decision=reason)
        if ready.plan.lesson_problem:
            log.warning("lessons may not work", problem=ready.plan.lesson_problem)
        return ready.plan

    async def start_service(self, tree: Tree, service: Service) -> None:
        await tree.start(service)
        self.hands.tell(f"{service.name} ready after {service.status().ready_after or 0:.1f} s")

    async def rewrite(self, tree: Tree, plan: Plan) -> None:
        """OpenClaw by another plan."""
        await self.made.gateway.write(plan)
        await tree.restart(GATEWAY)

    async def follow(self, tree: Tree, settings: Settings) -> tuple[str, ...]:
        """What ``Reloading`` calls: the services that were restarted for these settings."""
        if self.plan is None:
            raise SettingsError("settings cannot be read again while the assistant is starting; try once it is ready")
        if not await self.made.gateway.follow(settings, self.plan):
            return ()
        await tree.restart(GATEWAY)
        return (GATEWAY,)

    async def keep_door(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        host, port = door_host(self.made.settings), self.made.settings.openclaw_port
        await keep_door(host, port, self.made.gateway.port, lambda: self.status().moment, task_status=task_status)

    def controls(self, tree: Tree, reloading: Reloading) -> Controls:
        return Controls(
            status=lambda: tuple(service.status() for service in self.services),
            restart_one=tree.restart,
            stop_all=self.hands.stop,
            reload_all=reloading.reload,
        )

    async def landed(self, tree: Tree, learning: Learns, pack: Pack) -> None:
        """A pack has come. Lessons find theirs by themselves; Ollama looks for its libraries when it starts."""
        engine = self.made.serving.engine
        if pack.gives != "ollama" or engine.service is None:
            return
        restart = partial(tree.restart, engine.service.name)
        await start_anew(engine, restart, busy=lambda: learning.teaching_now is not None)

    def status(self) -> StackStatus:
        now = self.start.status(self.made.serving, self.services)
        now = replace(now, downloads={**now.downloads, **self.made.packs.progress})
        if now.phase == "ready" and self.backups is not None and self.backups.problem:
            return replace(now, phase="degraded", reason=self.backups.problem)
        return now


async def start_anew(
    engine: Rests, restart: Callable[[], Awaitable[None]], *, busy: Callable[[], bool], look: float = 1.0
) -> None:
    """Restart what serves between two replies, and not in a lesson. What goes wrong is a warning: the CPU serves on."""
    while busy():  # noqa: ASYNC110 - nothing announces the end of a lesson, and nothing is urgent
        await anyio.sleep(look)
    try:
        await engine.rest()
        try:
            await restart()
        finally:
            await engine.wake()
    except ClawlamaError as exc:
        log.warning("the GPU's libraries are used from the next start on", problem=str(exc))
        return
    log.info("Ollama has the GPU's libraries now", remedy="a restart of clawlama fits model and context to the GPU")


def backing_up(made: Made) -> BackingUp | None:
    """Backups that are made by themselves, where they are wanted."""
    settings = made.settings
    if settings.backup_every is None:
        return None
    schedule = Schedule(settings.backup_every, settings.backup_keep, settings.backup_dir or made.data.root / BACKUPS)
    return BackingUp(schedule, made.data.root, child_environment(), made.outputs("backup"))


async def tell_doing(serving: Serving, tell: Tell) -> None:
    """A line whenever what is done changes, and every now and then while its numbers do."""
    told, when = "", -TELL_EVERY
    while True:
        doing, now = serving.doing, anyio.current_time()
        kind = doing.split(" ", 1)[0]
        if doing and doing != told and (kind != told.split(" ", 1)[0] or now - when >= TELL_EVERY):
            tell(doing)
            told, when = doing, now
        await anyio.sleep(0.2)
