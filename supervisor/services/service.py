"""One supervised process: kept up, restarted and paused on request, and able to say how it fares."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Final

import anyio
import structlog

from supervisor.errors import ClawlamaError, CrashLoop, ServiceError
from supervisor.services.output import Output
from supervisor.services.process import Command, Process, running
from supervisor.services.restart import RestartPolicy, describe_exit, failures_in_a_row, pause_before_restart
from supervisor.services.status import ServiceStatus, State, used

LAST_WORDS: Final = 8  # lines of output that an error carries

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass
class _Life:
    """One process of a service, from its start to its end."""

    number: int
    began: float
    process: Process | None = None
    ready_at: float | None = None
    late: bool = False
    error: ClawlamaError | None = None


@dataclass(eq=False)
class Service:
    """One process kept up. Cancelling ``run`` is the only way to end it; the rest are requests to ``run``."""

    name: str
    command: Callable[[], Command]  # asked at every start, so that a restart may run other arguments
    answers: Callable[[], Awaitable[None]]  # returns once the process serves; asked at every start
    output: Output
    start_timeout: float = 60.0  # seconds; then the start has failed
    grace: float = 5.0  # seconds between SIGTERM and SIGKILL
    policy: RestartPolicy = field(default_factory=RestartPolicy)
    fatal_exits: Mapping[int, str] = field(default_factory=dict)  # codes no restart heals, and the remedy
    owner: str = ""  # see reaper.sweep

    _state: State = field(default="waiting", init=False)
    _life: _Life = field(default_factory=lambda: _Life(0, 0.0), init=False)
    _ready_life: int = field(default=0, init=False)  # the last life that became ready
    _replaced_life: int = field(default=-1, init=False)  # the last one that restart() was asked to replace
    _down: bool = field(default=False, init=False)  # pause() was asked for
    _over: ClawlamaError | None = field(default=None, init=False)  # what those who wait are told
    _restarts: int = field(default=0, init=False)
    _last_exit: int | None = field(default=None, init=False)
    _longest_grace: float = field(default=float("inf"), init=False)
    _asked: anyio.Event = field(default_factory=anyio.Event, init=False)  # wakes run()
    _changed: anyio.Event = field(default_factory=anyio.Event, init=False)  # wakes those who wait for a state

    async def run(self) -> None:
        """Keep the process up until cancelled.

        Raises CrashLoop when it will not stay up, ServiceError when a restart cannot help.
        """
        self._over, self._longest_grace = None, float("inf")
        end: State = "stopped"
        over: ClawlamaError = ServiceError(self.name, "is stopped")
        try:
            await self._keep_up()
        except ClawlamaError as exc:
            end, over = "failed", exc
            raise
        finally:
            self._over = over
            self._enter(end)

    async def restart(self) -> None:
        """Replace the process and return when the new one is ready. Concurrent callers share one restart.

        Not counted as a failure; if the new process fails, the usual policy applies. Raises what ended
        ``run`` if that happens first, and ServiceError for a paused service.
        """
        if self._down:
            raise ServiceError(self.name, "is paused; resume it instead of restarting it")
        if self._ready_life > self._replaced_life:  # no restart is under way
            self._replaced_life = self._life.number
            self._asked.set()
        old = self._replaced_life
        await self._until(lambda: self._ready_life > old)

    async def pause(self) -> None:
        """End the process and keep it down; return when its memory is free. Repeating it changes nothing."""
        self._down = True
        self._asked.set()
        await self._until(lambda: self._state in {"paused", "waiting"} or not self._down)

    async def resume(self) -> None:
        """Undo ``pause`` and return when a new process is ready; on a running service, wait for readiness."""
        if self._down:
            self._down = False
            self._asked.set()
            old = self._life.number
            await self._until(lambda: self._ready_life > old)
        await self.wait_ready()

    async def wait_ready(self) -> None:
        """Return once it serves. Raises what ended ``run`` if that comes first."""
        await self._until(lambda: self._state == "ready" and not self._asked.is_set())

    def hurry(self, grace: float) -> None:
        """Allow no end of this run more than so many seconds, not even one that has begun."""
        self._longest_grace = max(grace, 0.0)
        if self._life.process is not None:
            self._life.process.grace = min(self.grace, self._longest_grace)

    def status(self) -> ServiceStatus:
        """Cheap enough for every second: one look at /proc."""
        life, process = self._life, self._life.process
        now = anyio.current_time()
        rss, cpu = (None, None) if process is None else used(process.pid)
        return ServiceStatus(
            name=self.name,
            state=self._state,
            pid=process and process.pid,
            restarts=self._restarts,
            uptime=None if process is None else now - life.began,
            ready_after=None if process is None or life.ready_at is None else life.ready_at - life.began,
            last_exit=self._last_exit,
            rss=rss,
            cpu=cpu,
        )

    async def _keep_up(self) -> None:
        failures, pause = 0, 0.0
        while True:
            self._asked = anyio.Event()  # whatever was asked until here is answered by what follows
            if self._down:
                self._enter("paused")
                await self._asked.wait()
                pause = 0.0
            elif pause:
                self._enter("backing_off")
                with anyio.move_on_after(pause):
                    await self._asked.wait()
                pause = 0.0
            elif failure := await self._live():
                failures = failures_in_a_row(failures, self._ready_for(), self.policy)
                pause = self._pause_after(failure, failures)

    def _pause_after(self, failure: str, failures: int) -> float:
        pause = pause_before_restart(failures, self.policy)
        if pause is None:
            raise CrashLoop(self.name, f"failed {failures} times in a row, last: {failure}{self._last_words()}")
        self._restarts += 1
        log.warning("service failed", service=self.name, failure=failure, failures=failures, restart_in=pause)
        return pause

    async def _live(self) -> str | None:
        """One process from start to end. Returns how it failed, or None if its end was asked for."""
        life = self._life = _Life(self._life.number + 1, anyio.current_time())
        self._enter("starting")
        async with AsyncExitStack() as stack:
            stack.callback(self._ended, life)
            start = running(self.command(), output=self.output, grace=self.grace, owner=self.owner)
            try:
                life.process = await stack.enter_async_context(start)
            except (FileNotFoundError, NotADirectoryError, PermissionError) as exc:
                problem = f"cannot start {exc.filename}: {exc.strerror}; install it or correct the path"
                raise ServiceError(self.name, problem) from exc
            except OSError as exc:
                return f"cannot start: {exc}"
            stack.callback(self._stopping, life.process)
            await self._attend(life, life.process)
        return self._judge(life)

    async def _attend(self, life: _Life, process: Process) -> None:
        async with anyio.create_task_group() as tg:
            tg.start_soon(self._announce, life, tg.cancel_scope)
            tg.start_soon(self._heed, tg.cancel_scope)
            await process.wait()
            tg.cancel_scope.cancel()

    async def _announce(self, life: _Life, attention: anyio.CancelScope) -> None:
        try:
            with anyio.fail_after(self.start_timeout):
                await self.answers()
        except TimeoutError:
            life.late = True
            attention.cancel()
        except ClawlamaError as exc:
            life.error = exc
            attention.cancel()
        else:
            life.ready_at = anyio.current_time()
            self._ready_life = life.number
            log.debug("service ready", service=self.name, after=round(life.ready_at - life.began, 2))
            self._enter("ready")

    async def _heed(self, attention: anyio.CancelScope) -> None:
        await self._asked.wait()
        attention.cancel()

    def _stopping(self, process: Process) -> None:
        process.grace = min(self.grace, self._longest_grace)
        self._enter("stopping")

    def _ended(self, life: _Life) -> None:
        if life.process is not None:
            self._last_exit = life.process.returncode
            life.process = None

    def _judge(self, life: _Life) -> str | None:
        code = self._last_exit
        if life.error is not None:
            raise life.error
        if self._asked.is_set():
            return None
        if life.late:
            return f"no answer within {self.start_timeout:g} s of its start"
        if code is None:
            return "it does not end, not even by SIGKILL"
        if code in self.fatal_exits:
            raise ServiceError(self.name, f"{describe_exit(code)}: {self.fatal_exits[code]}{self._last_words()}")
        return describe_exit(code)

    def _ready_for(self) -> float | None:
        ready_at = self._life.ready_at
        return None if ready_at is None else anyio.current_time() - ready_at

    def _last_words(self) -> str:
        return "".join(f"\n  {line}" for line in list(self.output.tail)[-LAST_WORDS:])

    def _enter(self, state: State) -> None:
        self._state = state
        log.debug("service state", service=self.name, state=state)
        self._changed.set()
        self._changed = anyio.Event()

    async def _until(self, reached: Callable[[], bool]) -> None:
        while not reached():
            if self._over is not None:
                raise self._over
            await self._changed.wait()
