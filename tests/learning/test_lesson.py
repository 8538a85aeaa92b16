"""Lessons with everything real but small: trainer process, llama.cpp, journal, adapters on disk."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from supervisor.adapters.store import AdapterStore, file_record
from supervisor.distill.job import DistillJob, DistillResult, Progress
from supervisor.distill.lesson import run_lesson
from supervisor.engines.engine import Live, Version
from supervisor.engines.llama import LlamaEngine, LlamaSetup
from supervisor.errors import DistillFailed, EngineError, NotServed, TrainerKilled
from supervisor.executors.executor import OnProgress
from supervisor.executors.local import LocalExecutor
from supervisor.host.detect import detect
from supervisor.journal.journal import Journal, open_journal
from supervisor.journal.records import Lesson, NewFeedback
from supervisor.learning.gate import Limits
from supervisor.learning.lesson import MAX_ATTEMPTS, Base, Teaching, teach
from supervisor.learning.loop import Learning
from supervisor.learning.queue import JobBuilder
from supervisor.plan.decide import TINY_RECIPE, decide
from supervisor.plan.models import BaseModelFacts, model_facts
from supervisor.services.output import Output
from supervisor.services.tree import supervised
from supervisor.settings.settings import Settings
from tests.distill.lessons import chat_model
from tests.journal.samples import completion, feedback, taught

ADAPTER = "openclaw/assistant"
SERVED, PULLED = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"  # digests of two base models

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chat_model(tmp_path_factory.mktemp("base"))


@asynccontextmanager
async def classroom(base: Path, data: Path) -> AsyncIterator[Teaching]:
    """A running engine and an open journal, joined as boot joins them."""
    model = model_facts(str(base))
    plan = decide(detect(data), Settings(data=data, threads=1, parallel=1), model)
    adapters = AdapterStore(data / "adapters")
    (data / "run").mkdir(parents=True)
    around = dict(os.environ)
    setup = LlamaSetup(model.name, ADAPTER, model.gguf, 512, 1, 1, data / "run", 5.0, around, str(data))
    engine = LlamaEngine(setup, None, Output("engine"))
    with anyio.fail_after(120):
        async with (
            engine,
            open_journal(f"sqlite:///{data}/journal.db") as journal,
            supervised() as tree,
        ):
            await tree.start(engine.service)
            yield Teaching(
                journal=journal,
                adapters=adapters,
                engine=engine,
                executor=Here(),
                builder=JobBuilder(journal, adapters, plan),
                plan=plan,
                base=unchanging(model),
                code_version="test",
                timeout=60.0,
            )


def unchanging(model: BaseModelFacts) -> Base:
    """A base model that nobody pulls anew."""
    return Base(SERVED, partial(replaced_by, SERVED), lambda: nullcontext(model.trains_on))


async def replaced_by(digest: str) -> str:
    return digest


async def waiting(journal: Journal, text: str = "no emojis", **orchestration: Any) -> Lesson:
    said = NewFeedback(adapter=ADAPTER, text=text, prompt="how are you?", response="Hello there! 😊🎉")
    return await journal.add_feedback([said], training={}, orchestration=orchestration, gather=False, batch_size=4)


async def ended(room: Teaching, lesson: Lesson) -> Lesson:
    """The lesson as the learning loop leaves it."""
    async with room.journal.changes() as changes, anyio.create_task_group() as tg:
        tg.start_soon(Learning(room, patience=timedelta(0)).run)
        while not (lesson := await room.journal.lesson(lesson.id)).ended:
            await anext(changes)
        tg.cancel_scope.cancel()
    return lesson


async def queued(journal: Journal, text: str = "no emojis", **orchestration: Any) -> Lesson:
    await waiting(journal, text, **orchestration)
    lesson = await journal.claim_lesson(patience=timedelta(0))
    assert lesson is not None
    return lesson


class Here:
    """Trains in this process: the trainer's imports, seconds each time, are paid once for all tests."""

    async def run(self, job: DistillJob, on_progress: OnProgress) -> DistillResult:
        await on_progress(Progress(fraction=0.5, step="training"))
        return await anyio.to_thread.run_sync(run_lesson, job, lambda _fraction, _step: None)


@dataclass
class Broken:
    """An executor whose trainer does not survive."""

    calls: int = 0

    async def run(self, job: DistillJob, on_progress: OnProgress) -> DistillResult:
        self.calls += 1
        raise DistillFailed(job.id, "the trainer was ended by signal 9")


@dataclass
class Unlucky:
    """An executor whose trainer is killed so many times before it gets through."""

    times: int

    async def run(self, job: DistillJob, on_progress: OnProgress) -> DistillResult:
        self.times -= 1
        if self.times >= 0:
            raise TrainerKilled(job.id, "the trainer was ended by signal 9")
        return await Here().run(job, on_progress)


@dataclass
class Deaf:
    """An engine that says yes to every new version and goes on serving what it has."""

    real: LlamaEngine
    asked: list[str | None]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    async def publish(self, version: Version | None, live: Live | None = None) -> None:
        self.asked.append(version.name if version else None)
        if live is not None and not await live():
            raise NotServed("v0001 is not what answers")


class Brittle(Deaf):
    """An engine that dies the first time that it gets a new version."""

    async def publish(self, version: Version | None, live: Live | None = None) -> None:
        self.asked.append(version.name if version else None)
        if len(self.asked) == 1:
            raise EngineError("v0001 does not load")
        await self.real.publish(version, live)


@dataclass
class Held:
    """An executor that trains until it is stopped."""

    started: anyio.Event = field(default_factory=anyio.Event)

    async def run(self, job: DistillJob, on_progress: OnProgress) -> DistillResult:
        (job.out / "half").touch()
        self.started.set()
        await anyio.sleep_forever()
        raise AssertionError


async def test_a_lesson_ends_with_its_version_served_and_proved(base: Path, tmp_path: Path) -> None:
    async with classroom(base, tmp_path) as room:
        trainer = LocalExecutor(tmp_path / "lessons", dict(os.environ), Output("lesson"), str(tmp_path))

        lesson = await teach(replace(room, executor=trainer), await queued(room.journal))

        assert (lesson.state, lesson.version, lesson.error) == ("done", "v0001", None)
        assert room.engine.served.version == "v0001"
        current = room.adapters.current(ADAPTER)
        assert current is not None
        assert current.manifest.lesson_id == lesson.id
        assert lesson.metrics["proof_apart"] < lesson.metrics["proof_moved"] / 2
        assert {"distill", "save", "publish", "logprobs", "total"} <= lesson.timing_ms.keys()
        assert not list((tmp_path / "lessons").iterdir())


async def test_the_manifest_names_every_file_with_its_checksum(base: Path, tmp_path: Path) -> None:
    async with classroom(base, tmp_path) as room:
        await teach(room, await queued(room.journal))

        current = room.adapters.current(ADAPTER)
        assert current is not None
        on_disk = {path.name for path in current.folder.iterdir()} - {"manifest.json"}
        assert current.manifest.files.keys() == on_disk
        assert all(file_record(current.folder / name) == record for name, record in current.manifest.files.items())


async def test_the_second_lesson_starts_from_the_first(base: Path, tmp_path: Path) -> None:
    async with classroom(base, tmp_path) as room:
        await teach(room, await queued(room.journal))
        lesson = await teach(room, await queued(room.journal, "be brief"))

        each = TINY_RECIPE.updates * TINY_RECIPE.rounds
        assert (lesson.version, lesson.parent) == ("v0002", "v0001")
        assert [one.manifest.step for one in room.adapters.versions(ADAPTER)] == [each, 2 * each]


async def test_a_version_that_the_gate_turns_down_never_exists(base: Path, tmp_path: Path) -> None:
    async with classroom(base, tmp_path) as room:
        lesson = await teach(replace(room, limits=Limits(drift=-1e9)), await queued(room.journal))

        assert lesson.state == "rejected"
        assert "likelier" in str(lesson.error)
        assert room.adapters.versions(ADAPTER) == []
        assert room.engine.served.version is None


async def test_a_dead_trainer_fails_the_lesson_and_nothing_else(base: Path, tmp_path: Path) -> None:
    async with classroom(base, tmp_path) as room:
        lesson = await teach(replace(room, executor=Broken()), await queued(room.journal))

        assert (lesson.state, room.engine.served.version) == ("failed", None)
        assert "signal 9" in str(lesson.error)
        assert room.adapters.versions(ADAPTER) == []


async def test_a_killed_trainer_gets_another_try(base: Path, tmp_path: Path) -> None:
    async with classroom(base, tmp_path) as room:
        lesson = await ended(replace(room, executor=Unlucky(MAX_ATTEMPTS - 1)), await waiting(room.journal))

        assert (lesson.state, lesson.attempts, lesson.version) == ("done", MAX_ATTEMPTS, "v0001")


async def test_a_trainer_that_is_killed_each_time_fails_the_lesson(base: Path, tmp_path: Path) -> None:
    async with classroom(base, tmp_path) as room:
        lesson = await ended(replace(room, executor=Unlucky(MAX_ATTEMPTS)), await waiting(room.journal))

        assert (lesson.state, lesson.attempts) == ("failed", MAX_ATTEMPTS)
        assert "signal 9" in str(lesson.error)


async def test_an_engine_that_dies_with_a_new_version_gets_another_try(base: Path, tmp_path: Path) -> None:
    async with classroom(base, tmp_path) as room:
        assert isinstance(room.engine, LlamaEngine)
        brittle = Brittle(room.engine, [])

        lesson = await ended(replace(room, engine=brittle), await waiting(room.journal))

        assert (lesson.state, lesson.version) == ("done", "v0001")
        assert brittle.asked == ["v0001", "v0001"]
        assert len(room.adapters.versions(ADAPTER)) == 1  # and was not trained twice


async def test_a_lesson_that_is_stopped_is_no_failed_attempt(base: Path, tmp_path: Path) -> None:
    async with classroom(base, tmp_path) as room:
        lesson = await waiting(room.journal)
        training = Held()

        async with anyio.create_task_group() as tg:
            tg.start_soon(Learning(replace(room, executor=training), patience=timedelta(0)).run)
            await training.started.wait()
            tg.cancel_scope.cancel()

        stopped = await room.journal.lesson(lesson.id)
        assert (stopped.state, stopped.attempts) == ("queued", 0)
        assert not list(tmp_path.rglob("adapters/**/.staging/*"))


async def test_an_engine_that_ignores_the_adapter_is_found_out(base: Path, tmp_path: Path) -> None:
    async with classroom(base, tmp_path) as room:
        assert isinstance(room.engine, LlamaEngine)
        deaf = Deaf(room.engine, [])

        lesson = await teach(replace(room, engine=deaf), await queued(room.journal))

        assert lesson.state == "failed"
        assert "v0001 is not what answers" in str(lesson.error)
        assert deaf.asked == ["v0001", None]  # and was told to go back
        assert room.adapters.current(ADAPTER) is None


async def test_a_version_committed_before_a_crash_is_served_without_training_again(base: Path, tmp_path: Path) -> None:
    async with classroom(base, tmp_path) as room:
        lesson = await queued(room.journal)
        await teach(room, lesson)
        room.adapters.promote(ADAPTER, None)  # as if we had died before the last step
        broken = Broken()

        again = await teach(replace(room, executor=broken), lesson)

        assert (again.state, again.version, broken.calls) == ("done", "v0001", 0)
        current = room.adapters.current(ADAPTER)
        assert current is not None
        assert current.manifest.version == "v0001"


async def test_a_lesson_that_brings_us_down_each_time_is_given_up(base: Path, tmp_path: Path) -> None:
    async with classroom(base, tmp_path) as room:
        lesson = await queued(room.journal)

        ended = await teach(room, lesson.model_copy(update={"attempts": MAX_ATTEMPTS + 1}))

        assert ended.state == "failed"
        assert "interrupted" in str(ended.error)


async def test_the_engine_rests_while_a_lesson_wants_its_memory(base: Path, tmp_path: Path) -> None:
    async with classroom(base, tmp_path) as room:
        seen: list[str] = []

        @dataclass
        class Watching:
            async def run(self, job: DistillJob, on_progress: OnProgress) -> DistillResult:
                assert room.engine.service is not None
                seen.append(room.engine.service.status().state)
                return await room.executor.run(job, on_progress)

        lesson = await teach(replace(room, executor=Watching()), await queued(room.journal, sleep_before=True))

        assert (lesson.state, seen) == ("done", ["paused"])
        assert {"sleep", "wake"} <= lesson.timing_ms.keys()
        assert room.engine.served.version == "v0001"


async def test_the_engine_wakes_after_a_lesson_that_failed(base: Path, tmp_path: Path) -> None:
    async with classroom(base, tmp_path) as room:
        await teach(replace(room, executor=Broken()), await queued(room.journal, sleep_before=True))

        assert room.engine.service is not None
        assert room.engine.service.status().state == "ready"


async def test_feedback_that_cannot_be_trained_on_fails_its_lesson_with_the_reason(base: Path, tmp_path: Path) -> None:
    async with classroom(base, tmp_path) as room:
        said = NewFeedback(adapter=ADAPTER, text="nicer", prompt="hi", response="Hello")
        await room.journal.add_feedback(
            [said], training={"teacher_top_k": 5}, orchestration={}, gather=False, batch_size=4
        )
        lesson = await room.journal.claim_lesson(patience=timedelta(0))
        assert lesson is not None

        ended = await teach(room, lesson)

        assert ended.state == "failed"
        assert "teacher_top_k=5" in str(ended.error)


async def test_the_loop_teaches_what_is_queued_and_what_has_waited_long_enough(base: Path, tmp_path: Path) -> None:
    async with classroom(base, tmp_path) as room, anyio.create_task_group() as tg:
        said = NewFeedback(adapter=ADAPTER, text="no emojis", prompt="hi", response="Hello there! 😊")
        gathering = await room.journal.add_feedback([said], training={}, orchestration={}, gather=True, batch_size=4)
        async with room.journal.changes() as changes:
            tg.start_soon(Learning(room, patience=timedelta(seconds=0.3)).run)
            async for _ in changes:
                if (await room.journal.lesson(gathering.id)).ended:
                    break
        tg.cancel_scope.cancel()

        assert (await room.journal.lesson(gathering.id)).state == "done"


@dataclass
class Away:
    """A server that is gone for the first few times that somebody asks."""

    times: int

    async def digest(self) -> str:
        self.times -= 1
        if self.times >= 0:
            raise EngineError("Ollama does not say what it has")
        return SERVED


async def test_a_lesson_waits_for_a_server_that_is_gone_and_loses_no_attempt(base: Path, tmp_path: Path) -> None:
    async with classroom(base, tmp_path) as room, anyio.create_task_group() as tg:
        server = Away(MAX_ATTEMPTS + 2)
        away = replace(room, base=replace(room.base, now=server.digest))
        lesson = await waiting(room.journal)
        async with room.journal.changes() as changes:
            tg.start_soon(Learning(away, patience=timedelta(0), again_in=0.01).run)
            async for _ in changes:
                if (await room.journal.lesson(lesson.id)).ended:
                    break
        tg.cancel_scope.cancel()

        ended = await room.journal.lesson(lesson.id)
        assert (ended.state, ended.attempts) == ("done", 1)


@pytest.mark.parametrize(
    ("question", "tools", "training"),
    [
        ("how are you?", [{"type": "function", "function": {"name": "look"}}], {}),
        ("how are you? " * 40, [], {"max_prompt_tokens": 64}),
    ],
)
async def test_a_prompt_with_tools_and_a_prompt_that_was_cut_can_be_proved_live(
    base: Path, tmp_path: Path, question: str, tools: list[dict[str, Any]], training: dict[str, Any]
) -> None:
    async with classroom(base, tmp_path) as room:
        said = [{"role": "user", "content": question}]
        reply = completion(
            "Hello there! 😊🎉", messages=said, base=room.plan.model.name, request={"messages": said, "tools": tools}
        )
        await room.journal.add_completion(reply)
        await taught(room.journal, feedback(completion_id=reply.id), **training)
        lesson = await room.journal.claim_lesson(patience=timedelta(0))
        assert lesson is not None

        assert (await teach(room, lesson)).state == "done"


async def test_a_base_that_was_pulled_anew_meanwhile_is_not_taught_until_a_restart(base: Path, tmp_path: Path) -> None:
    async with classroom(base, tmp_path) as room:
        room.adapters.bind(SERVED)
        other = replace(room, base=replace(room.base, now=partial(replaced_by, PULLED)))
        lesson = await teach(other, await queued(room.journal))

    assert lesson.state == "failed"
    assert "restart clawlama" in str(lesson.error)
