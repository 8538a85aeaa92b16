"""The start: order, readiness, and being told to stop in the middle of it."""

import signal
from pathlib import Path

import anyio
import pytest

from tests.services.scenarios.rigs import STAYS, Rig, rig, sh, stays

pytestmark = pytest.mark.anyio

STEP = 0.05  # seconds
NEWLINE = 'import os, time; os.write(int(os.environ["CLAWLAMA_READY_FD"]), b"up\\n"); time.sleep(60)'


async def test_a_start_has_its_order_and_a_stop_the_reverse(tmp_path: Path) -> None:
    once = sh("once", 'echo "+$0" >> events', ready="exit")
    services = (once, stays("engine", "once"), stays("gateway", "engine"))

    async with rig(tmp_path, *services) as one:
        await one.ready()
        assert await one.end(signal.SIGTERM) == 0

    assert one.events == ["+once", "+engine", "+gateway", "-gateway", "-engine"]


async def test_readiness_may_come_as_a_line_or_through_a_descriptor(tmp_path: Path) -> None:
    line = sh("line", f"echo starting; echo listening on 11434; {STAYS}", ready="line listening on [0-9]+")
    descriptor = {"name": "fd", "argv": ["python3", "-c", NEWLINE], "ready": "fd", "needs": ("line",)}

    async with rig(tmp_path, line, descriptor, stays("last", "fd")) as one:
        await one.ready()
        assert await one.end(signal.SIGTERM) == 0


async def test_sigterm_at_every_50_ms_of_the_start_leaves_nothing_and_is_no_failure(tmp_path: Path) -> None:
    few = anyio.CapacityLimiter(2)  # more would hold each other up
    async with anyio.create_task_group() as tg:
        for step in range(16):
            tg.start_soon(stopped_after, tmp_path / str(step), step * STEP, few)


async def stopped_after(folder: Path, seconds: float, few: anyio.CapacityLimiter) -> None:
    folder.mkdir()
    daemon = f"setsid sh -c '{STAYS}' & touch $0.up; wait"
    services = [stays("engine"), sh("daemon", daemon, ready="daemon.up"), stays("gateway", "engine", "daemon")]
    async with few, rig(folder, *services) as one:
        await anyio.sleep(seconds)
        before_our_first_line = not (folder / "begun").exists()
        code = await one.end(signal.SIGTERM)

    assert code == 0 or (before_our_first_line and code == -signal.SIGTERM), one.said


async def test_a_need_that_is_never_met_is_named_and_the_rest_goes(tmp_path: Path) -> None:
    deaf = stays("deaf", "engine", start_timeout=0.3, patience=1) | {"ready": "never"}

    async with rig(tmp_path, stays("engine"), deaf, stays("gateway", "deaf")) as one:
        code = await one.end()

    assert code == 1
    assert "error: deaf: failed 2 times in a row, last: no answer within 0.3 s of its start" in one.said
    assert one.events == ["+engine", "+deaf", "-deaf", "+deaf", "-deaf", "-engine"]


async def test_a_second_start_sweeps_what_a_killed_one_left(tmp_path: Path) -> None:
    daemon = sh("daemon", f"setsid sh -c 'echo $$ >> pids; {STAYS}' & echo $$ >> pids; {STAYS}")
    services = (stays("engine"), daemon)
    async with rig(tmp_path, *services) as first:
        await first.ready()
        await first.makes("pids")
        first.process.kill()
        await first.process.wait()
        assert len(first.left()) >= 3

        async with rig(tmp_path, *services) as second:
            await second.ready()
            assert not [pid for pid in first.pids("pids")[:2] if is_among(pid, second)]
            assert await second.end(signal.SIGTERM) == 0


def is_among(pid: int, one: Rig) -> bool:
    return any(line.startswith(f"{pid} ") for line in one.left())
