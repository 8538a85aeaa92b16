"""One lesson from claim to served version. Whatever stops it, the version before keeps serving.

claim → train → gate → commit the version → serve it → prove it → promote → done. A version that was committed before a
crash is not trained again: the lesson goes on at serving it.
"""

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import anyio
import structlog

from supervisor.adapters.manifest import FileRecord, Manifest
from supervisor.adapters.store import AdapterStore, AdapterVersion, file_records
from supervisor.distill.job import DistillJob, DistillResult, Progress
from supervisor.engines.engine import Engine, Version
from supervisor.errors import AdapterError, ClawlamaError, DistillFailed, EngineError, NotServed, TrainerKilled
from supervisor.executors.executor import Executor
from supervisor.journal.journal import Journal
from supervisor.journal.records import Lesson
from supervisor.learning.gate import Limits, judge
from supervisor.learning.inputs import Digests, adapter_files, samples_sha256
from supervisor.learning.proof import Proof, prove
from supervisor.learning.queue import JobBuilder
from supervisor.plan.plan import Plan

JOB_FILE, RESULT_FILE = "job.json", "result.json"
TRAINED = 0.9  # share of the progress bar that training fills; serving and proving fill the rest
MAX_ATTEMPTS = 3  # a lesson that brings everything down must not do so for ever

log = structlog.get_logger()


@dataclass(frozen=True)
class Base:
    """What lessons build on: its digest at the start, and now; ``held`` keeps the weights readable for a block."""

    digest: str
    now: Callable[[], Awaitable[str]]
    held: Callable[[], AbstractContextManager[Path]]


@dataclass(frozen=True)
class Teaching:
    """Everything that a lesson touches."""

    journal: Journal
    adapters: AdapterStore
    engine: Engine
    executor: Executor
    builder: JobBuilder
    plan: Plan
    base: Base
    code_version: str
    timeout: float  # seconds for the training
    limits: Limits = field(default_factory=Limits)
    digests: Digests = field(default_factory=Digests)


@dataclass
class Clock:
    """Milliseconds per step of one lesson, under the names that users of the older service know."""

    marks: dict[str, float] = field(default_factory=dict)

    @asynccontextmanager
    async def timing(self, step: str) -> AsyncIterator[None]:
        started = anyio.current_time()
        try:
            yield
        finally:
            self.marks[step] = self.marks.get(step, 0.0) + round((anyio.current_time() - started) * 1000, 1)


async def teach(teaching: Teaching, lesson: Lesson) -> Lesson:
    """Carry a claimed lesson to its end; an expected failure is its state and error text, not an exception.

    One that a kill cut short is queued again, ``MAX_ATTEMPTS`` times at most.
    """
    clock = Clock()
    try:
        async with clock.timing("total"):
            if lesson.attempts > MAX_ATTEMPTS:
                raise DistillFailed(
                    lesson.id, f"interrupted {MAX_ATTEMPTS} times already; send the feedback again to retry"
                )
            teaching.adapters.check_base(await teaching.base.now())
            version = committed(teaching, lesson) or await train(teaching, lesson, clock)
            if isinstance(version, str):
                return await teaching.journal.update_lesson(
                    lesson.id, state="rejected", error=version, timing_ms=clock.marks, step="rejected"
                )
            proof = await serve(teaching, lesson, version, clock)
    except ClawlamaError as exc:
        if passing(exc) and lesson.attempts < MAX_ATTEMPTS:
            log.warning("lesson interrupted, trying again", lesson=lesson.id, problem=str(exc))
            return await teaching.journal.update_lesson(lesson.id, state="queued", step="interrupted; tries again")
        log.warning("lesson failed", lesson=lesson.id, problem=str(exc))
        return await teaching.journal.update_lesson(
            lesson.id, state="failed", error=str(exc), timing_ms=clock.marks, step="failed"
        )
    metrics = {**result_of(version).metrics, "proof_moved": proof.moved, "proof_apart": proof.apart}
    log.info("lesson learned", lesson=lesson.id, version=version.manifest.version, ms=clock.marks)
    return await teaching.journal.update_lesson(
        lesson.id, state="done", progress=1.0, step="learned", metrics=metrics, timing_ms=clock.marks
    )


def passing(problem: ClawlamaError) -> bool:
    """Whether it may go well another time: somebody killed the trainer, or the engine."""
    return isinstance(problem, TrainerKilled | EngineError) and not isinstance(problem, NotServed)


def committed(teaching: Teaching, lesson: Lesson) -> AdapterVersion | None:
    """The version that an earlier, interrupted attempt at this lesson finished."""
    return next(
        (one for one in teaching.adapters.versions(lesson.adapter) if one.manifest.lesson_id == lesson.id), None
    )


async def train(teaching: Teaching, lesson: Lesson, clock: Clock) -> AdapterVersion | str:
    """The committed version, or why the gate turned it down."""
    name = teaching.adapters.next_version(lesson.adapter)
    staged = teaching.adapters.stage(lesson.adapter, name)
    try:
        with teaching.base.held() as weights:
            job = await teaching.builder.build(lesson, staged, weights)
            async with rested(teaching, lesson, clock):
                result = await trained(teaching, lesson, job, clock)
            base = await anyio.to_thread.run_sync(teaching.digests.base_files, weights, teaching.base.digest)
        verdict = judge(result, teaching.limits)
        if not verdict.passed:
            await teaching.journal.update_lesson(lesson.id, metrics=result.metrics)
            return verdict.reason
        async with clock.timing("save"):
            (staged / JOB_FILE).write_text(job.model_dump_json())
            (staged / RESULT_FILE).write_text(result.model_dump_json())
            manifest = await anyio.to_thread.run_sync(describe, teaching, lesson, name, job, result, base)
            return await anyio.to_thread.run_sync(teaching.adapters.commit, staged, manifest)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


async def trained(teaching: Teaching, lesson: Lesson, job: DistillJob, clock: Clock) -> DistillResult:
    async def tell(progress: Progress) -> None:
        await teaching.journal.update_lesson(lesson.id, progress=progress.fraction * TRAINED, step=progress.step)

    async with clock.timing("distill"):
        try:
            with anyio.fail_after(teaching.timeout):
                return await teaching.executor.run(job, tell)
        except TimeoutError as exc:
            raise DistillFailed(
                lesson.id, f"not done after {teaching.timeout:.0f} s (CLAWLAMA_LESSON_TIMEOUT_S); it was stopped"
            ) from exc


@asynccontextmanager
async def rested(teaching: Teaching, lesson: Lesson, clock: Clock) -> AsyncIterator[None]:
    """The engine gives its memory back for the block, if the plan or the caller wants that, and always wakes again."""
    wish = lesson.orchestration.get("sleep_before")
    if not (teaching.plan.rest_for_lessons if wish is None else wish):
        yield
        return
    async with clock.timing("sleep"):
        await teaching.engine.rest()
    try:
        yield
    finally:
        async with clock.timing("wake"):
            with anyio.CancelScope(shield=True), anyio.move_on_after(60):
                await teaching.engine.wake()


async def serve(teaching: Teaching, lesson: Lesson, version: AdapterVersion, clock: Clock) -> Proof:
    """Publish, prove, promote. Raises NotServed when it is not what serves then; the version before is then back."""
    name = version.manifest.version
    await teaching.journal.update_lesson(
        lesson.id,
        state="publishing",
        version=name,
        parent=version.manifest.parent,
        progress=TRAINED,
        step=f"serving {name}",
    )
    proofs: list[Proof] = []
    switched = False

    async def live() -> bool:
        nonlocal switched
        switched = True
        await teaching.journal.update_lesson(lesson.id, progress=0.95, step=f"proving that {name} is live")
        async with clock.timing("logprobs"):
            proofs.append(await prove(teaching.engine, result_of(version)))
        return proofs[-1].holds

    try:
        async with clock.timing("publish"):
            await teaching.engine.publish(Version(name, version.gguf), live)
    except EngineError as exc:
        if switched:  # else the engine kept to the version before
            before = teaching.adapters.current(lesson.adapter)
            await teaching.engine.publish(Version(before.manifest.version, before.gguf) if before else None)
        if isinstance(exc, NotServed) and proofs:
            raise NotServed(f"{exc}: {far_off(proofs[-1])}") from exc
        raise
    proof = proofs[-1]
    if not proof.conclusive:
        log.warning("lesson moved too little to be proved", lesson=lesson.id, moved=proof.moved)
    await anyio.to_thread.run_sync(teaching.adapters.promote, lesson.adapter, name)
    return proof


def far_off(proof: Proof) -> str:
    return (
        f"its replies are {proof.apart:.3f} nats a token from the trained model, "
        f"and the lesson moved them by {proof.moved:.3f}"
    )


def describe(
    teaching: Teaching, lesson: Lesson, name: str, job: DistillJob, result: DistillResult, base: dict[str, FileRecord]
) -> Manifest:
    """The manifest of a staged version."""
    store = teaching.adapters
    parent = None if job.parent is None else store.version(lesson.adapter, job.parent.name).manifest
    return Manifest(
        adapter=lesson.adapter,
        version=name,
        parent=parent and parent.version,
        created=datetime.now(UTC),
        base_model=teaching.plan.model.name,
        base_digest=teaching.base.digest,
        lesson_id=lesson.id,
        feedback=tuple(sample.id for sample in job.samples),
        step=result.step,
        lora=result.lora.model_dump(mode="json"),
        training=job.training.model_dump(mode="json"),
        metrics=result.metrics,
        code_version=teaching.code_version,
        files=file_records(job.out),
        step_before=parent.step if parent else 0,
        samples_sha256=samples_sha256(job),
        base_files=base,
        adapter_files=adapter_files(store, job),
        made_with={} if result.made_with is None else result.made_with.model_dump(mode="json"),
    )


def result_of(version: AdapterVersion) -> DistillResult:
    return DistillResult.model_validate_json(text_of(version.folder / RESULT_FILE))


def text_of(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as exc:
        raise AdapterError(f"{path} cannot be read: {exc.strerror}") from exc
