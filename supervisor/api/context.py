"""What the API is made of: the objects it calls, and how the whole stack fares."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from supervisor.adapters.store import AdapterStore
from supervisor.api.turns import Turns
from supervisor.api.warmup import WarmUp
from supervisor.engines.engine import Engine
from supervisor.journal.journal import Journal
from supervisor.services.status import ServiceStatus

Phase = Literal["starting", "pulling", "warming", "ready", "learning", "degraded", "stopping"]


@dataclass(frozen=True)
class StackStatus:
    """One moment of everything that runs; ``reason`` says why the phase is not ``ready``, else it is empty."""

    phase: Phase
    reason: str = ""
    services: tuple[ServiceStatus, ...] = ()
    downloads: Mapping[str, str] = field(default_factory=dict)  # further models on their way: how far, or what is wrong
    failing: str = ""  # why a turn would fail now and nothing is on its way; empty while all is well or comes along


@dataclass(frozen=True)
class ApiContext:
    """Made by boot, handed to every route."""

    engine: Engine
    journal: Journal
    adapters: AdapterStore
    token: str
    version: str  # of this package
    status: Callable[[], StackStatus]
    feedback_log_dir: Path
    allowed_base_models: tuple[str, ...]
    batch_size: int = 4  # feedback per gathered lesson
    lesson_timeout_s: float = 3600.0  # how long a caller who waits for a lesson is kept waiting
    warm_up: WarmUp = field(default_factory=WarmUp)
    turns: Turns = field(default_factory=Turns)
