"""What the API is made of: the objects it calls, and how the whole stack fares."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from supervisor.adapters.store import AdapterStore
from supervisor.api.control import Control
from supervisor.api.metrics import Metrics
from supervisor.api.status import StackStatus
from supervisor.api.turns import Turns
from supervisor.api.warmup import WarmUp
from supervisor.engines.engine import Engine
from supervisor.journal.journal import Journal
from supervisor.settings.datadir import DataDir


@dataclass(frozen=True)
class ApiContext:
    """Made by boot, handed to every route."""

    engine: Engine
    journal: Journal
    adapters: AdapterStore
    token: str
    version: str  # of this package
    status: Callable[[], StackStatus]
    control: Control
    data: DataDir
    feedback_log_dir: Path
    allowed_base_models: tuple[str, ...]
    batch_size: int = 4  # feedback per gathered lesson
    lesson_timeout_s: float = 3600.0  # how long a caller who waits for a lesson is kept waiting
    warm_up: WarmUp = field(default_factory=WarmUp)
    turns: Turns = field(default_factory=Turns)
    metrics: Metrics = field(default_factory=Metrics)
    open_metrics: bool = False  # whether /metrics answers without a token
