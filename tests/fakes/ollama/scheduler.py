"""Which models are in memory: one runner per base blob, loaded anew when the adapter or a runner option changes.

One decision is made at a time, and a request that has to wait for an unload holds up those behind it, as in Ollama.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio

from tests.fakes.ollama.failures import Refused
from tests.fakes.ollama.options import RunnerOptions
from tests.fakes.ollama.quirks import Switchboard
from tests.fakes.ollama.runner import Child, start
from tests.fakes.ollama.runner_process import RunnerConfig
from tests.fakes.ollama.settings import FOREVER, Environment
from tests.fakes.ollama.store import Stored

BUSY = "server busy, please try again.  maximum pending requests exceeded"
LONGEST = timedelta(days=365 * 292)  # what an endless keep-alive shows in /api/ps


@dataclass
class Runner:
    model: Stored
    adapters: tuple[Path, ...]
    options: RunnerOptions
    child: Child
    keep_alive: float
    requests: int = 0
    deadline: float = FOREVER  # on anyio's clock, while idle

    @property
    def expires_at(self) -> datetime:
        if self.keep_alive == FOREVER:
            return datetime.now(UTC) + LONGEST
        left = self.keep_alive if self.requests else max(0.0, self.deadline - anyio.current_time())
        return datetime.now(UTC) + timedelta(seconds=left)

    @property
    def size(self) -> int:
        weights = self.model.weights
        return sum(path.stat().st_size for path in (*([weights] if weights else ()), *self.adapters) if path.exists())


class Scheduler:
    """Runs inside ``async with scheduler.running()``; leaving that ends every runner."""

    def __init__(self, environment: Environment, board: Switchboard) -> None:
        self.loaded: dict[Path, Runner] = {}
        self._environment = environment
        self._board = board
        self._turn = anyio.Lock()
        self._pending = 0
        self._changed = anyio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._expire)
            try:
                yield
            finally:
                tasks.cancel_scope.cancel()
                for runner in self.loaded.values():
                    await runner.child.end()

    async def acquire(self, model: Stored, options: RunnerOptions, keep_alive: float | None) -> Runner:
        """A loaded runner that stays until ``release``. Raises Refused: busy, or it does not load."""
        if self._board.now.busy or self._pending >= self._environment.max_queue:
            raise Refused(503, BUSY)
        self._pending += 1
        try:
            async with self._turn:
                runner = await self._usable(model, options, keep_alive)
                runner.requests += 1
        finally:
            self._pending -= 1
        if keep_alive is not None:
            runner.keep_alive = keep_alive
        return runner

    def release(self, runner: Runner) -> None:
        runner.requests -= 1
        runner.deadline = anyio.current_time() + runner.keep_alive
        self._notify()

    def expire(self, model: Stored) -> None:
        """Unload what serves this model's weights as soon as it is idle; does not wait for it."""
        runner = self.loaded.get(weights_of(model))
        if runner is not None:
            runner.keep_alive = 0.0
            runner.deadline = anyio.current_time()
            self._notify()

    async def _usable(self, model: Stored, options: RunnerOptions, keep_alive: float | None) -> Runner:
        key = weights_of(model)
        adapters = model.adapters if self._board.now.adapters != "ignore" else ()
        runner = self.loaded.get(key)
        if runner is not None:
            if (runner.adapters, runner.options) == (adapters, options) and runner.child.alive:
                return runner
            await self._unload(runner)
        while len(self.loaded) >= self._environment.max_loaded:
            await self._unload(min(self.loaded.values(), key=lambda other: (other.requests, other.keep_alive)))
        seconds = self._environment.keep_alive if keep_alive is None else keep_alive
        child = await self._load(key, adapters, options)
        self.loaded[key] = runner = Runner(model, adapters, options, child, seconds)
        return runner

    async def _load(self, weights: Path, adapters: tuple[Path, ...], options: RunnerOptions) -> Child:
        if adapters and self._board.now.adapters == "no_load":
            raise Refused(500, "llama runner process has terminated: error loading adapter")
        if missing := [path for path in (weights, *adapters) if not path.exists()]:
            raise Refused(500, f"unable to load model: {missing[0]}")
        await anyio.sleep(self._board.now.load_seconds)
        config = RunnerConfig(
            weights=str(weights),
            adapters=[str(path) for path in adapters],
            context=options.context,
            parallel=self._environment.parallel,
            threads=options.threads,
            batch=options.batch,
            shift=options.shift,
            parent=None if self._board.now.orphans else os.getpid(),
        )
        return await start(config)

    async def _unload(self, runner: Runner) -> None:
        """Wait for its requests to end, then end it."""
        runner.keep_alive = 0.0
        runner.deadline = anyio.current_time()
        self._notify()
        while runner in self.loaded.values():
            await self._changed.wait()

    async def _expire(self) -> None:
        while True:
            idle = [runner for runner in self.loaded.values() if not runner.requests]
            first = min(idle, key=lambda runner: runner.deadline, default=None)
            if first is not None and first.deadline <= anyio.current_time():
                self.loaded.pop(weights_of(first.model))  # before it ends, so that nobody is given it
                await first.child.end()
                self._notify()
                continue
            with anyio.CancelScope(deadline=first.deadline if first else FOREVER):
                await self._changed.wait()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


def weights_of(model: Stored) -> Path:
    if model.weights is None:
        raise Refused(500, f"model {model.name.shortest} has no weights")
    return model.weights
