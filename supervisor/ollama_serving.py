"""Serving by Ollama: a model that may have to come over the network first, on a server that may be somebody else's.

Only imported where Ollama serves: its client alone takes a tenth of a second and four megabytes.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import anyio
import structlog

from supervisor.adapters.store import AdapterStore, AdapterVersion
from supervisor.engines.engine import Version
from supervisor.engines.ollama.engine import OllamaEngine
from supervisor.engines.ollama.pin import pinned
from supervisor.engines.ollama.server import find_ollama
from supervisor.engines.ollama.setup import OllamaSetup, Tuning, address
from supervisor.errors import EngineError
from supervisor.host.facts import HostFacts
from supervisor.plan.catalog import CATALOG
from supervisor.plan.decide import Device, decide
from supervisor.plan.memory import given_back
from supervisor.plan.models import BaseModelFacts
from supervisor.plan.plan import Plan
from supervisor.serving import LiveOf, Prepared
from supervisor.settings.datadir import DataDir
from supervisor.settings.settings import Settings
from supervisor.stack import Outputs

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(frozen=True)
class OllamaServing:
    engine: OllamaEngine
    settings: Settings
    facts: HostFacts
    adapters: AdapterStore
    pins: Path  # a folder of ours, for links to the weights in use
    lessons_on: Device = "cpu"

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
        free = await self.without_us(model)
        plan = decide(free, self.settings, model, lessons_on=self.lessons_on, server_here=here)
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


def ollama_engine(
    settings: Settings,
    model: str,
    data: DataDir,
    outputs: Outputs,
    environment: Mapping[str, str],
    better: Callable[[], Path | None],
) -> OllamaEngine:
    setup = OllamaSetup(
        at=address(settings.ollama_host),
        base=model,
        adapter=settings.adapter,
        data=data.root,
        others=tuple(one for one in settings.models if one != model),
        models=settings.ollama_models,
        keep_alive=settings.ollama_keep_alive,
        max_loaded=settings.ollama_max_loaded_models,
        parallel=settings.parallel,
        publish=settings.publish,
        keep_versions=settings.keep_versions,
        drain=settings.drain_timeout_s,
        executable=find_ollama(environment.get("PATH")),
        better=better,
        environment=environment,
        owner=str(data.root),
        known_models=tuple(CATALOG),
    )
    return OllamaEngine(setup, outputs)
