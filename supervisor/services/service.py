"""One supervised process: kept up, restarted and paused on request, and able to say how it fares."""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from typing import Final

import anyio
import structlog

from supervisor.errors import ClawlamaError, CrashLoop, ServiceError
from supervisor.services.output import Output
from supervisor.services.process import Command, Process, running
from supervisor.services.readiness import Armed, EndsWell, Liveness, Probe, Readiness, armed
from supervisor.services.restart import (
    RestartPolicy,
    describe_exit,
    exit_status,
    failures_in_a_row,
    pause_before_restart,
)
from supervisor.services.status import ServiceStatus, State, used

LAST_WORDS: Final = 8  # lines of output that an error carries
SERVES: Final = {"ready", "hanging", "done"}  # a slow answer to one probe does not keep requests away

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass
class _Life:
    """One process of a service, from its start to its end."""

    number: int
    began: float
    process: Process | None = None
    ready_at: float | None = None
    late: bool = False
    hung: bool = False
    done: bool = False  # a one-shot that went well
    error: ClawlamaError | None = None


@dataclass(eq=False)
class Service:
    """One process kept up. Cancelling ``run`` is the only way to end it; the rest are requests to ``run``."""

    name: str
    command: Callable[[], Command]  # asked at every start, so that a restart may run other arguments
    answers: Readiness  # how each start says that it serves
    output: Output
    needs: tuple[str, ...] = ()  # names of services that must be ready before its first start
    essential: bool = True  # False: the others stay when it is given up
    alive: Liveness | None = None
    start_timeout: float = 60.0  # seconds; then the start has failed
    grace: float = 5.0  # seconds between SIGTERM and SIGKILL
    policy: RestartPolicy = field(default_factory=RestartPolicy)
    fatal_exits: Mapping[int, str] = field(default_factory=dict)  # codes no restart heals, and the remedy
    excuse: re.Pattern[str] | None = None  # among its last lines it makes such a code a failure like others
    owner: str = ""  # see reaper.sweep

    _state: State = field(default="waiting", init=False)
    _life: _Life = field(default_factory=lambda: _Life(0, 0.0), init=False)
    _ready_life: int = field(default=0, init=False)  # the last life that became ready
    _replaced_life: int = field(default=-1, init=False)  # the last one that restart() was asked to replace
    _down: bool = field(default=False, init=False)  # pause() was asked for
    _doom: ClawlamaError | None = field(default=None, init=False)  # give_up() was asked for
    _over: ClawlamaError | None = field(default=None, init=False)  # what those who wait are told
    _problem: str = field(default="", init=False)  # see ServiceStatus
    _restarts: int = field(default=0, init=False)
    _last_exit: int | None = field(default=None, init=False)
    _ends_by: float = field(default=float("inf"), init=False)  # see hurry
    _asked: anyio.Event = field(default_factory=anyio.Event, init=False)  # wakes run()
    _changed: anyio.Event = field(default_factory=anyio.Event, init=False)  # wakes those who wait for a state

    async def run(self, needs: Sequence["Service"] = ()) -> None:
        """Keep the process up until cancelled, once those are ready.

        Raises CrashLoop when it will not stay up, ServiceError when a restart cannot help.
        """
        self.renew()
        end: State = "stopped"
        over: ClawlamaError = ServiceError(self.name, "is stopped")
        try:
            await self._first(needs)
            await self._keep_up()
        except ClawlamaError as exc:
            end, over = "failed", exc
            self._problem = str(exc).removeprefix(f"{self.name}: ").partition("\n")[0]
            raise
        finally:
            self._over = over
            self._enter(end)

    def renew(self) -> None:
        """Forget how it ended, if it did: those who wait from now on wait for the coming ``run``."""
        if self._over is None:
            return
        self._over = self._doom = None
        self._down = False
        self._ends_by = float("inf")
        self._life = _Life(self._life.number, 0.0)
        self._state, self._problem = "waiting", ""

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
            old = self._life.number
            self.unpause()
            await self._until(lambda: self._ready_life > old)
        await self.wait_ready()

    def unpause(self) -> None:
        """Undo ``pause`` and do not wait."""
        if self._down:
            self._down = False
            self._asked.set()

    def give_up(self, reason: ClawlamaError) -> None:
        """End the process, and ``run`` with this error."""
        self._doom = reason
        self._asked.set()

    async def wait_ready(self) -> None:
        """Return once it serves, or is done. Raises what ended ``run`` if that comes first."""
        await self._until(lambda: self._state in SERVES and not self._asked.is_set())

    def hurry(self, within: float) -> None:
        """From so many seconds on there is no grace any more, not even in an end that has begun."""
        self._ends_by = anyio.current_time() + within
        if self._life.process is not None:
            self._life.process.end_by = self._ends_by

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
            essential=self.essential,
            problem=self._problem,
        )

    async def _first(self, needs: Sequence["Service"]) -> None:
        for need in needs:
            try:
                await need.wait_ready()
            except ClawlamaError as exc:
                raise unmet(self.name, need.name, exc) from exc

    async def _keep_up(self) -> None:
        failures, pause = 0, 0.0
        while True:
            await anyio.lowlevel.checkpoint()  # cancelled during the end of a process, we start no other
            if self._asked.is_set():  # whatever was asked until here is answered by what follows
                self._asked, self._life.done = anyio.Event(), False
            if self._doom is not None:
                raise self._doom
            if self._down:
                self._enter("paused")
                await self._asked.wait()
                pause = 0.0
            elif pause:
                self._enter("backing_off")
                with anyio.move_on_after(pause):
                    await self._asked.wait()
                pause = 0.0
            elif self._life.done:
                self._enter("done")
                await self._asked.wait()
            elif failure := await self._live():
                failures = failures_in_a_row(failures, self._ready_for(), self.policy)
                pause = self._pause_after(failure, failures)

    def _pause_after(self, failure: str, failures: int) -> float:
        self._problem = failure
        pause = pause_before_restart(failures, self.policy)
        if pause is None:
            problem = f"failed {failures} times in a row, last: {failure}{self._last_words()}"
            cut_short = self._life.late or self._life.hung  # by us, so its exit code says nothing
            raise CrashLoop(self.name, problem, exit_code=exit_status(None if cut_short else self._last_exit))
        self._restarts += 1
        log.warning("service failed", service=self.name, failure=failure, failures=failures, restart_in=pause)
        return pause

    async def _live(self) -> str | None:
        """One process from start to end. Returns how it failed, or None if its end is as it should be."""
        life = self._life = _Life(self._life.number + 1, anyio.current_time())
        self._enter("starting")
        async with AsyncExitStack() as stack:
            stack.callback(self._ended, life)
            attention = stack.enter_context(armed(self.answers, self.output))
            try:
                life.process = await stack.enter_async_context(self._started(attention))
            except (FileNotFoundError, NotADirectoryError, PermissionError) as exc:
                problem = f"cannot start {exc.filename}: {exc.strerror}; install it or correct the path"
                raise ServiceError(self.name, problem) from exc
            except OSError as exc:
                return f"cannot start: {exc}"
            stack.callback(self._stopping, life.process)
            await self._attend(life, life.process, attention.ready)
        return self._judge(life)

    def _started(self, attention: Armed) -> AbstractAsyncContextManager[Process]:
        return running(
            self.command(),
            output=self.output,
            grace=self.grace,
            owner=self.owner,
            descriptors=attention.descriptors,
        )

    async def _attend(self, life: _Life, process: Process, ready: Probe) -> None:
        async with anyio.create_task_group() as tg:
            tg.start_soon(self._watch, life, ready, tg.cancel_scope)
            tg.start_soon(self._heed, tg.cancel_scope)
            await process.wait()
            tg.cancel_scope.cancel()

    async def _watch(self, life: _Life, ready: Probe, attention: anyio.CancelScope) -> None:
        try:
            with anyio.fail_after(self.start_timeout):
                await ready()
        except TimeoutError:
            life.late = True
        except ClawlamaError as exc:
            life.error = exc
        else:
            self._serves(life, "ready")
            await self._question(life)
        attention.cancel()

    def _serves(self, life: _Life, state: State) -> None:
        life.ready_at = anyio.current_time()
        self._ready_life, self._problem = life.number, ""
        log.debug("service ready", service=self.name, after=round(life.ready_at - life.began, 2))
        self._enter(state)

    async def _question(self, life: _Life) -> None:
        """Return when it has not answered too often."""
        if self.alive is None:
            await anyio.sleep_forever()
            return
        misses = 0
        while misses < self.alive.misses:
            await anyio.sleep(self.alive.every)
            misses = 0 if await answered(self.alive) else misses + 1
            self._problem = f"no answer within {self.alive.within:g} s, {misses} times in a row" if misses else ""
            self._enter("hanging" if misses else "ready")
        life.hung = True

    async def _heed(self, attention: anyio.CancelScope) -> None:
        await self._asked.wait()
        attention.cancel()

    def _stopping(self, process: Process) -> None:
        process.end_by = self._ends_by
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
        if life.hung:
            return self._problem
        if code is None:
            return "it does not end, not even by SIGKILL"
        if code in self.fatal_exits and not self._excused():
            problem = f"{describe_exit(code)}: {self.fatal_exits[code]}{self._last_words()}"
            raise ServiceError(self.name, problem, exit_code=exit_status(code))
        if code == 0 and isinstance(self.answers, EndsWell):
            life.done = True
            self._serves(life, "done")
            return None
        return describe_exit(code)

    def _ready_for(self) -> float | None:
        ready_at = self._life.ready_at
        return None if ready_at is None else anyio.current_time() - ready_at

    def _excused(self) -> bool:
        return self.excuse is not None and any(map(self.excuse.search, self.output.tail))

    def _last_words(self) -> str:
        return "".join(f"\n  {line}" for line in list(self.output.tail)[-LAST_WORDS:])

    def _enter(self, state: State) -> None:
        if state != self._state:
            log.debug("service state", service=self.name, state=state)
        self._state = state
        self._changed.set()
        self._changed = anyio.Event()

    async def _until(self, reached: Callable[[], bool]) -> None:
        while not reached():
            if self._over is not None:
                raise self._over
            await self._changed.wait()


async def answered(alive: Liveness) -> bool:
    with anyio.move_on_after(alive.within):
        try:
            await alive.answers()
        except ClawlamaError as exc:
            log.debug("liveness probe", problem=str(exc))
        else:
            return True
    return False


def unmet(service: str, need: str, error: ClawlamaError) -> ServiceError:
    problem = f"needs {need}, which was given up; restart that first ({error})"
    return ServiceError(service, problem, exit_code=error.exit_code)
