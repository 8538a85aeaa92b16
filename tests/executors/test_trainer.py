"""A trainer that stays for the next lesson: real processes; all but one are spared what a lesson is made of."""

import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from subprocess import DEVNULL

import anyio
import psutil
import pytest

from supervisor.distill.job import DistillJob
from supervisor.errors import DistillFailed, TrainerKilled
from supervisor.executors.local import LocalExecutor
from supervisor.executors.trainer import Warm
from supervisor.services.output import Output
from supervisor.services.proc import snapshot
from tests.distill import lessons
from tests.executors.test_local import acting, executor, heed, job, trainers

QUICK = {"PYTHONPATH": str(Path(__file__).parent / "quick")}

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def school(
    scratch: Path, *, seconds: float = 60.0, more: Mapping[str, str] = QUICK
) -> AsyncIterator[LocalExecutor]:
    """An executor that keeps its trainer; all is over with the block."""
    with anyio.fail_after(100):
        async with anyio.create_task_group() as tg:
            around = {**os.environ, **more}
            yield replace(executor(scratch), environment=around, warm=Warm(tg, seconds))
            tg.cancel_scope.cancel()
    assert trainers(scratch) == []
    assert not any(scratch.iterdir())


async def taught(by: LocalExecutor, lesson: DistillJob) -> int:
    """The process that the lesson ran in."""
    return int((await by.run(lesson, heed)).metrics["pid"])


async def gone(pid: int) -> None:
    while (proc := snapshot().get(pid)) is not None and not proc.dead:  # noqa: ASYNC110 - nothing tells us
        await anyio.sleep(0.02)


def named(folder: Path, name: str) -> DistillJob:
    return job(folder).model_copy(update={"id": name})


async def test_lessons_in_a_row_share_a_trainer(tmp_path: Path) -> None:
    async with school(tmp_path / "scratch") as trainer:
        pids = {await taught(trainer, named(tmp_path, f"les-{number}")) for number in range(3)}

    assert len(pids) == 1


async def test_a_trainer_ends_when_no_lesson_comes_for_long_enough(tmp_path: Path) -> None:
    async with school(tmp_path / "scratch", seconds=0.3) as trainer:
        pid = await taught(trainer, job(tmp_path))
        assert psutil.pid_exists(pid)

        await gone(pid)

        assert await taught(trainer, job(tmp_path)) != pid


async def test_a_trainer_that_was_killed_meanwhile_is_replaced(tmp_path: Path) -> None:
    async with school(tmp_path / "scratch") as trainer:
        pid = await taught(trainer, job(tmp_path))
        psutil.Process(pid).kill()
        await gone(pid)

        assert await taught(trainer, job(tmp_path)) != pid


async def test_another_environment_means_another_trainer(tmp_path: Path) -> None:
    async with school(tmp_path / "scratch") as trainer:
        first = await taught(trainer, job(tmp_path))
        more = await taught(trainer, job(tmp_path).model_copy(update={"threads": 2}))
        later = await taught(replace(trainer, complete=lambda around: {**around, "PACK": "here"}), job(tmp_path))

        assert len({first, more, later}) == 3
        assert [one.pid for one in trainers(tmp_path / "scratch")] == [later]


async def test_a_lesson_whose_warm_trainer_is_killed_says_so_and_the_next_has_its_own(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    async with school(scratch) as trainer:
        pid = await taught(trainer, job(tmp_path))
        with pytest.raises(TrainerKilled, match="les-long: the trainer was ended by signal 9"):
            await trainer.run(named(tmp_path, "les-long"), acting(psutil.Process(pid).kill))
        assert trainers(scratch) == []

        assert await taught(trainer, job(tmp_path)) != pid


async def test_a_trainer_that_failed_takes_no_further_lesson(tmp_path: Path) -> None:
    async with school(tmp_path / "scratch") as trainer:
        pid = await taught(trainer, job(tmp_path))
        with pytest.raises(DistillFailed, match="les-broken: the trainer ended with code 1 and left no result"):
            await trainer.run(named(tmp_path, "les-broken"), heed)
        assert trainers(tmp_path / "scratch") == []

        assert await taught(trainer, job(tmp_path)) != pid


async def test_a_stopped_lesson_takes_its_trainer_with_it_before_it_is_over(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    async with school(scratch) as trainer:
        await taught(trainer, job(tmp_path))

        with anyio.CancelScope() as scope:
            await trainer.run(named(tmp_path, "les-long"), acting(scope.cancel))

        assert scope.cancelled_caught
        assert trainers(scratch) == []


async def test_a_trainer_leaves_a_gpu_after_each_lesson(tmp_path: Path) -> None:
    async with school(tmp_path / "scratch", more={**QUICK, "GPU": "1"}) as trainer:
        await taught(trainer, job(tmp_path))

        assert trainers(tmp_path / "scratch") == []


async def test_what_a_lesson_prints_is_output_and_no_answer(tmp_path: Path) -> None:
    output = Output("lesson")
    async with school(tmp_path / "scratch") as trainer:
        await taught(replace(trainer, output=output), named(tmp_path, "les-7"))

    assert [line.strip() for line in output.tail] == ["les-7"]


async def test_a_trainer_ends_with_whoever_started_it_in_the_middle_of_a_lesson(tmp_path: Path) -> None:
    code = (
        "import os, socket, subprocess, sys, time\n"
        "ours, theirs = socket.socketpair()\n"
        "words = [sys.executable, '-m', 'supervisor.distill', '--worker', str(theirs.fileno())]\n"
        "print(subprocess.Popen(words, pass_fds=[theirs.fileno()], start_new_session=True).pid, flush=True)\n"
        f"ours.sendall(b'{tmp_path}\\n')\n"
        "time.sleep(60)"
    )
    (tmp_path / "job.json").write_text(named(tmp_path, "les-long").model_dump_json())
    env = {**os.environ, **QUICK, "TMPDIR": str(tmp_path)}

    with anyio.fail_after(60):
        async with await anyio.open_process([sys.executable, "-c", code], stderr=DEVNULL, env=env) as parent:
            assert parent.stdout is not None
            trainer = int((await parent.stdout.receive()).split()[0])
            while not (tmp_path / "left").exists():  # noqa: ASYNC110 - the lesson has begun
                await anyio.sleep(0.02)
            parent.kill()

        await gone(trainer)


async def test_the_same_lesson_gives_the_same_bytes_in_a_cold_trainer_and_in_a_warm_one(tmp_path: Path) -> None:
    base = lessons.chat_model(tmp_path / "base")
    async with school(tmp_path / "scratch", more={}) as warm:
        cold = await executor(tmp_path / "scratch").run(lessons.job(base, tmp_path / "cold"), heed)
        await warm.run(lessons.job(base, tmp_path / "other", seed=7, rounds=2), heed)
        (process,) = trainers(tmp_path / "scratch")
        result = await warm.run(lessons.job(base, tmp_path / "warm"), heed)
        assert [one.pid for one in trainers(tmp_path / "scratch")] == [process.pid]

    assert result.seconds["import"] + result.seconds["load"] < 0.5 * (cold.seconds["import"] + cold.seconds["load"])
    assert (result.probes, result.metrics) == (cold.probes, cold.metrics)
    for path in (tmp_path / "cold").iterdir():
        assert path.read_bytes() == (tmp_path / "warm" / path.name).read_bytes(), path.name
