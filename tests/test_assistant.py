"""How a running engine is given what came for it; the whole of the assistant is tested in e2e."""

from dataclasses import dataclass, field

import anyio
import pytest

from supervisor.assistant import start_anew
from supervisor.errors import EngineError, ServiceError

pytestmark = pytest.mark.anyio


@dataclass
class Engine:
    """Writes down what is asked of it."""

    clings: bool = False  # to its memory
    breaks: bool = False
    asked: list[str] = field(default_factory=list)

    async def rest(self) -> None:
        self.asked.append("rest")
        if self.clings:
            raise EngineError("the server keeps a model in memory")

    async def wake(self) -> None:
        self.asked.append("wake")

    async def restart(self) -> None:
        self.asked.append("restart")
        if self.breaks:
            raise ServiceError("engine", "does not come back")


@pytest.mark.parametrize(
    ("engine", "asked"),
    [
        (Engine(), ["rest", "restart", "wake"]),
        (Engine(clings=True), ["rest"]),
        (Engine(breaks=True), ["rest", "restart", "wake"]),
    ],
)
async def test_an_engine_is_restarted_between_two_replies_and_trouble_ends_nothing(
    engine: Engine, asked: list[str]
) -> None:
    await start_anew(engine, engine.restart, busy=lambda: False)

    assert engine.asked == asked


async def test_a_lesson_is_let_finish_first() -> None:
    engine, lesson = Engine(), [True, True, False]
    with anyio.fail_after(5):
        await start_anew(engine, engine.restart, busy=lambda: lesson.pop(0), look=0.01)

    assert (lesson, engine.asked) == ([], ["rest", "restart", "wake"])
