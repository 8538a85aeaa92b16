"""From the chosen model to an engine that serves it. A model on disk is known at once; Ollama may pull it first."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import anyio
import structlog

from supervisor.adapters.store import AdapterStore, AdapterVersion
from supervisor.engines.engine import Live, Version
from supervisor.engines.llama import LlamaEngine
from supervisor.engines.ollama.engine import OllamaEngine
from supervisor.engines.ollama.pin import pinned
from supervisor.engines.ollama.setup import Tuning, address
from supervisor.errors import EngineError
from supervisor.host.facts import HostFacts
from supervisor.plan.decide import decide
from supervisor.plan.memory import given_back
from supervisor.plan.models import BaseModelFacts
from supervisor.plan.plan import Plan
from supervisor.settings.settings import Settings

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(frozen=True)
class Prepared:
    """``problem``: why not everything that was learned serves; empty when it does."""

    plan: Plan
    problem: str = ""


LiveOf = Callable[[AdapterVersion], Live]
"""How to find out whether what serves is this version."""


class Serving(Protocol):
    """An engine on its way. ``prepare`` is called once its service, if it has one, is being kept up."""

    @property
    def engine(self) -> LlamaEngine | OllamaEngine: ...

    @property
    def doing(self) -> str:
        """What ``prepare`` is at, for people: "pulling qwen3:8b 43 %, 12 MB/s, 3 min left"."""
        ...

    @property
    def pulled(self) -> int | None:
        """Bytes of the model that have come, while more are to come; None when no pull is under way."""
        ...

    @property
    def downloads(self) -> Mapping[str, str]:
        """Further models on their way: how far, or what is wrong."""
        ...

    @property
    def trouble(self) -> str:
        """What is wrong with a server that is not ours to keep up; empty when nothing is."""
        ...

    async def prepare(self, live_of: LiveOf) -> Prepared:
        """Return once the current version serves, with the adapters bound to its base. Raises ClawlamaError."""
        ...

    async def beside(self) -> None:
        """What may take its time after that."""
        ...

    async def base_now(self) -> str:
        """The digest of the base model as it is now. Raises EngineError."""
        ...

    def held(self, plan: Plan) -> AbstractContextManager[Path]:
        """What lessons load, kept readable for the block."""
        ...


@dataclass(frozen=True)
class LlamaServing:
    engine: LlamaEngine
    plan: Plan

    @property
    def doing(self) -> str:
        return "" if self.engine.service.status().state == "ready" else f"loading {self.plan.model.name}"

    @property
    def pulled(self) -> None:
        return None

    @property
    def downloads(self) -> Mapping[str, str]:
        return {}

    @property
    def trouble(self) -> str:
        return ""

    async def prepare(self, _live_of: LiveOf) -> Prepared:
        await self.engine.service.wait_ready()
        return Prepared(self.plan)

    async def beside(self) -> None:
        return

    async def base_now(self) -> str:
        return self.plan.model.digest or ""

    def held(self, plan: Plan) -> AbstractContextManager[Path]:
        return nullcontext(plan.model.trains_on)


@dataclass(frozen=True)
class OllamaServing:
    engine: OllamaEngine
    settings: Settings
    facts: HostFacts
    adapters: AdapterStore
    pins: Path  # a folder of ours, for links to the weights in use

    @property
    def doing(self) -> str:
        return self.engine.doing

    @property
    def pulled(self) -> int | None:
        return self.engine.pulled

    @property
    def downloads(self) -> Mapping[str, str]:
        return self.engine.downloads

    @property
    def trouble(self) -> str:
        return self.engine.trouble

    async def prepare(self, live_of: LiveOf) -> Prepared:
        await self.engine.reach()
        await self.engine.ensure_model()
        model = await self.engine.model_facts()
        here = address(self.settings.ollama_host).local
        plan = decide(await self.without_us(model), self.settings, model, server_here=here)
        if model.digest is not None:
            self.adapters.bind(model.digest)
        await self.engine.tune(tuning(plan))
        current = await anyio.to_thread.run_sync(self.adapters.current, self.settings.adapter)
        return Prepared(plan, await self.start(current, live_of))

    async def start(self, current: AdapterVersion | None, live_of: LiveOf) -> str:
        """Serve the version, proved like a new one: the server may have become another since. Else the bare base.

        The answer says what went wrong with it.
        """
        if current is not None:
            name = current.manifest.version
            try:
                await self.engine.start(Version(name, current.gguf), live_of(current))
            except EngineError as exc:
                log.warning("the bare base serves", version=name, problem=str(exc))
                await self.engine.start(None)
                return f"{name} cannot be served, the bare {self.engine.served.base} serves: {exc}"
            return ""
        await self.engine.start(None)
        return ""

    async def without_us(self, model: BaseModelFacts) -> HostFacts:
        """The machine without what a server that ran before us holds for us: it will be ours again.

        The weights are mapped from their file, which the kernel counts as available memory anyway.
        """
        held = await self.engine.held()
        return given_back(self.facts, ram=max(0, held.ram - model.weights), vram=held.vram)

    async def beside(self) -> None:
        async with anyio.create_task_group() as tg:
            tg.start_soon(self.engine.watch)
            await self.engine.pull_others()

    async def base_now(self) -> str:
        return (await self.engine.model_facts()).digest or ""

    def held(self, plan: Plan) -> AbstractContextManager[Path]:
        return pinned(plan.model.trains_on, self.pins)


def tuning(plan: Plan) -> Tuning:
    return Tuning(
        context=plan.context,
        threads=plan.num_thread,
        parallel=plan.parallel,
        flash_attention=plan.flash_attention,
        kv_type=plan.kv_cache,
        sampling=plan.model.sampling,
    )
