"""From the chosen model to an engine that serves it. A model on disk is known at once; Ollama may pull it first."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from supervisor.adapters.store import AdapterVersion
from supervisor.engines.engine import Live
from supervisor.engines.llama import LlamaEngine
from supervisor.plan.plan import Plan

if TYPE_CHECKING:
    from supervisor.engines.ollama.engine import OllamaEngine


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
    def engine(self) -> "LlamaEngine | OllamaEngine": ...

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
