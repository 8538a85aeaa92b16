"""What stands between people and the engine: journal, API and learning loop.

Half of all that a start imports is below this module, so boot loads it while the engine is already starting.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import anyio
from anyio.abc import TaskGroup

from supervisor.adapters.store import AdapterVersion
from supervisor.api.app import create_app
from supervisor.api.context import ApiContext
from supervisor.api.control import Control
from supervisor.api.server import serve
from supervisor.api.status import StackStatus
from supervisor.api.turns import one_token
from supervisor.api.warmup import WarmUp
from supervisor.executors.local import LocalExecutor
from supervisor.executors.trainer import Warm
from supervisor.first_turn import FirstTurn
from supervisor.journal.journal import Journal, open_journal
from supervisor.learning.lesson import Base, Teaching, result_of
from supervisor.learning.loop import Learning
from supervisor.learning.proof import prove
from supervisor.learning.queue import JobBuilder
from supervisor.made import Made
from supervisor.plan.plan import Plan
from supervisor.settings.sources import child_environment
from supervisor.start import Start, Tell


@dataclass(frozen=True)
class Front:
    """Up inside the block of ``front``."""

    made: Made
    start: Start
    journal: Journal
    warm_up: WarmUp
    tasks: TaskGroup

    def first_turn(self, tell: Tell, again: Callable[[Plan], Awaitable[None]]) -> FirstTurn:
        return FirstTurn(self.made.running, self.warm_up, self.start, tell, again)

    def learning(self, plan: Plan) -> Learning:
        return Learning(self._teaching(plan), timedelta(seconds=self.made.settings.feedback_patience_s))

    async def is_live(self, version: AdapterVersion) -> bool:
        """Whether what the engine serves is this version."""
        return (await prove(self.made.serving.engine, result_of(version))).holds

    def _teaching(self, plan: Plan) -> Teaching:
        made = self.made
        return Teaching(
            journal=self.journal,
            adapters=made.adapters,
            engine=made.serving.engine,
            executor=LocalExecutor(
                made.data.lessons,
                child_environment(),
                made.outputs("lesson"),
                str(made.data.root),
                made.packs.lesson_environment,
                warm(plan, made.settings.trainer_warm_s, self.tasks),
            ),
            builder=JobBuilder(self.journal, made.adapters, plan),
            plan=plan,
            base=Base(digest=plan.model.digest or "", now=made.serving.base_now, held=partial(made.serving.held, plan)),
            code_version=made.running.version,
            timeout=made.settings.lesson_timeout_s,
        )


def warm(plan: Plan, seconds: float, tasks: TaskGroup) -> Warm | None:
    """Who keeps the trainer between lessons; None where its memory is the engine's then, or nobody wants it."""
    return Warm(tasks, seconds) if seconds and not plan.rest_for_lessons else None


@asynccontextmanager
async def front(made: Made, start: Start, status: Callable[[], StackStatus], control: Control) -> AsyncIterator[Front]:
    """Journal and API, answering inside the block."""
    async with open_journal(f"sqlite:///{made.data.journal}") as journal, anyio.create_task_group() as tg:
        inside = Front(made, start, journal, WarmUp(), tg)
        context = api_context(inside, status, control)
        host, port = made.settings.api_host, made.settings.api_port
        await tg.start(lambda **started: serve(create_app(context), host=host, port=port, **started))
        tg.start_soon(start.turns.watch, partial(one_token, made.serving.engine))
        yield inside
        tg.cancel_scope.cancel()


def api_context(inside: Front, status: Callable[[], StackStatus], control: Control) -> ApiContext:
    made, settings = inside.made, inside.made.settings
    return ApiContext(
        engine=made.serving.engine,
        journal=inside.journal,
        adapters=made.adapters,
        token=made.running.api_token,
        batch_size=settings.feedback_batch_size,
        lesson_timeout_s=settings.lesson_timeout_s,
        version=made.running.version,
        allowed_base_models=(made.running.model,),
        status=status,
        data=made.data,
        open_metrics=settings.open_metrics,
        feedback_log_dir=settings.feedback_log_dir or made.data.feedback,
        warm_up=inside.warm_up,
        turns=inside.start.turns,
        control=control,
    )
