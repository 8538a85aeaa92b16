"""Real trainer processes; most are ended before they have loaded torch."""

import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import anyio
import psutil
import pytest

from supervisor.distill.job import FAILURE, RESULT, DistillFailure, DistillJob, LoraShape, Progress, Sample, Training
from supervisor.errors import DistillFailed, TrainerKilled
from supervisor.executors.local import LocalExecutor, bytecode, outcome, trainer_environment
from supervisor.executors.trainer import NICE, follow
from supervisor.services.output import Output
from tests.learning.results import result

pytestmark = pytest.mark.anyio


def job(folder: Path) -> DistillJob:
    """A lesson whose base model is not there."""
    told = {"role": "user", "content": "hi"}
    sample = Sample(id="fb-1", messages=(told,), hindsight=(told,), reply={"role": "assistant", "content": "hello"})
    return DistillJob(
        id="les-1",
        base=folder / "no-such-model",
        base_gguf=folder / "no-such-model" / "model.gguf",
        parent=None,
        out=folder / "out",
        samples=(sample,),
        training=Training(learning_rate=1e-3, alpha=0.05, kl_reg_weight=0.01),
        lora=LoraShape(),
        threads=1,
    )


def executor(scratch: Path) -> LocalExecutor:
    return LocalExecutor(scratch, dict(os.environ), Output("lesson"), str(scratch))


def trainers(scratch: Path) -> list[psutil.Process]:
    """Our children that work in this folder."""
    return [child for child in psutil.Process().children() if child.environ()["TMPDIR"].startswith(str(scratch))]


async def heed(_progress: Progress) -> None:
    """A listener that has no use for what it hears."""


def acting(action: Callable[[], None]) -> Callable[[Progress], Awaitable[None]]:
    """A listener that does something when it hears the trainer first."""

    async def listen(_progress: Progress) -> None:
        action()

    return listen


async def test_a_lesson_on_a_model_that_is_not_there_fails_naming_it(tmp_path: Path) -> None:
    heard: list[str] = []

    async def listen(progress: Progress) -> None:
        heard.append(progress.step)

    with anyio.fail_after(120), pytest.raises(DistillFailed, match=rf"lesson les-1: .*{tmp_path}/no-such-model"):
        await executor(tmp_path / "scratch").run(job(tmp_path), listen)

    assert heard[0] == "loading the trainer"
    assert not any((tmp_path / "scratch").iterdir())


async def test_what_a_trainer_leaves_in_its_temporary_folder_goes_with_it(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    seen: list[Path] = []

    def look() -> None:
        seen.extend(Path(trainer.environ()["TMPDIR"]) for trainer in trainers(scratch))
        (seen[0] / "cache").touch()

    with anyio.fail_after(120), pytest.raises(DistillFailed):
        await executor(scratch).run(job(tmp_path), acting(look))

    assert {path.parent for path in seen} == {scratch}
    assert not any(scratch.iterdir())


async def test_a_trainer_leaves_the_processor_to_whoever_answers(tmp_path: Path) -> None:
    nice: list[int] = []

    def look() -> None:
        nice.extend(trainer.nice() for trainer in trainers(tmp_path / "scratch"))

    with anyio.fail_after(120), pytest.raises(DistillFailed):
        await executor(tmp_path / "scratch").run(job(tmp_path), acting(look))

    assert set(nice) == {max(NICE, os.getpriority(os.PRIO_PROCESS, 0))}


def test_a_trainer_starts_with_the_threads_of_its_lesson() -> None:
    assert trainer_environment({"HOME": "/", "OMP_NUM_THREADS": "8"}, 2)["OMP_NUM_THREADS"] == "2"


async def test_a_killed_trainer_is_a_failed_lesson_that_says_so(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"

    def kill() -> None:
        (trainer,) = trainers(scratch)
        trainer.kill()

    with anyio.fail_after(60), pytest.raises(TrainerKilled, match="the trainer was ended by signal 9 and left no"):
        await executor(scratch).run(job(tmp_path), acting(kill))

    assert not any(scratch.iterdir())


async def test_cancelling_leaves_no_process_and_no_folder(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    seen: list[psutil.Process] = []

    with anyio.fail_after(60), anyio.CancelScope() as scope:

        def cancel() -> None:
            seen.extend(trainers(scratch))
            scope.cancel()

        await executor(scratch).run(job(tmp_path), acting(cancel))

    assert scope.cancelled_caught
    assert [process.is_running() for process in seen] == [False]
    assert not any(scratch.iterdir())


async def test_what_an_interrupted_attempt_left_is_not_taken_for_a_result(tmp_path: Path) -> None:
    folder = tmp_path / "scratch" / "les-1"
    folder.mkdir(parents=True)
    (folder / RESULT).write_text(result().model_dump_json())

    def end() -> None:
        for trainer in trainers(tmp_path / "scratch"):
            trainer.send_signal(signal.SIGTERM)

    with anyio.fail_after(60), pytest.raises(DistillFailed, match="signal 15"):
        await executor(tmp_path / "scratch").run(job(tmp_path), acting(end))


async def test_a_disk_that_does_not_take_the_job_fails_the_lesson(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(DistillFailed, match=r"file/les-1 cannot be written: Not a directory"):
        await executor(tmp_path / "file").run(job(tmp_path), heed)


@pytest.mark.parametrize(
    ("code", "left", "problem"),
    [
        (0, None, "the trainer ended with code 0 and left no result"),
        (0, "{}", "the trainer ended with code 0 and left no result"),
        (1, None, "the trainer ended with code 1 and left no result; its output is in the log folder"),
        (-15, None, "the trainer was ended by signal 15"),
        (1, DistillFailure(problem="the base has no eos token").model_dump_json(), "the base has no eos token"),
        (1, "torn", "the trainer ended with code 1"),
    ],
)
def test_an_end_without_a_result_is_a_failure_with_its_reason(
    tmp_path: Path, code: int, left: str | None, problem: str
) -> None:
    if left is not None:
        (tmp_path / (FAILURE if code else RESULT)).write_text(left)

    with pytest.raises(DistillFailed) as error:
        outcome(job(tmp_path), tmp_path, code)

    assert str(error.value).startswith(f"lesson les-1: {problem}")


def test_a_result_is_what_the_trainer_wrote(tmp_path: Path) -> None:
    (tmp_path / RESULT).write_text(result().model_dump_json())

    assert outcome(job(tmp_path), tmp_path, 0) == result()


async def test_progress_is_passed_on_line_by_line_and_never_half(tmp_path: Path) -> None:
    path = tmp_path / "progress.jsonl"
    send, receive = anyio.create_memory_object_stream[Progress](10)

    with anyio.fail_after(20), send, receive:
        async with anyio.create_task_group() as tg:
            tg.start_soon(follow, path, send.send)
            path.write_text('{"fraction": 0.1, "step": "one"}\n{"fraction": 0.2, "st')
            first = await receive.receive()
            with path.open("a") as file:
                file.write('ep": "twö"}\n')
            second = await receive.receive()
            tg.cancel_scope.cancel()

    assert [(one.fraction, one.step) for one in (first, second)] == [(0.1, "one"), (0.2, "twö")]


def test_compiled_modules_are_kept_in_the_home_where_packages_are_not_ours(tmp_path: Path) -> None:
    assert bytecode("/home/me", tmp_path / "no") == {"PYTHONPYCACHEPREFIX": "/home/me/.cache/python"}
    assert bytecode("/home/me", tmp_path) == {}
    assert bytecode(None, tmp_path / "no") == {}


async def test_what_came_since_the_last_lesson_is_in_the_next_ones_environment(tmp_path: Path) -> None:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "pydantic.py").write_text("raise SystemExit(7)\n")
    packs = {"PYTHONPATH": str(tmp_path / "pack")}
    late = replace(executor(tmp_path / "lessons"), complete=lambda around: {**around, **packs})

    with anyio.fail_after(60), pytest.raises(DistillFailed, match="the trainer ended with code 7"):
        await late.run(job(tmp_path), heed)
