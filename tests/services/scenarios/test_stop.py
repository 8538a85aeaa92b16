"""The stop: in order, in time, and with nothing left, whatever the services make of it."""

import os
import signal
from pathlib import Path
from shutil import which

import anyio
import pytest

from supervisor.services.proc import snapshot
from tests.services.children import until
from tests.services.scenarios.rigs import IGNORES, NOTES, STAYS, rig, sh, stays

pytestmark = pytest.mark.anyio

PATIENT = {"grace": 1000.0}


async def test_a_child_that_ignores_sigterm_is_given_the_deadline_and_no_more(tmp_path: Path) -> None:
    deaf = sh("deaf", f"{IGNORES} touch deaf.up; {STAYS}", ready="deaf.up", **PATIENT)

    async with rig(tmp_path, stays("engine"), deaf | {"needs": ["engine"]}, stop_within=0.8) as one:
        await one.ready()
        assert await one.end(signal.SIGTERM, within=8) == 0


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_stops_at_once(tmp_path: Path, second: signal.Signals) -> None:
    deaf = sh("deaf", f"{IGNORES} setsid sh -c '{IGNORES} touch deaf.up; {STAYS}'", ready="deaf.up", **PATIENT)

    async with rig(tmp_path, stays("engine"), deaf, stop_within=1000) as one:
        await one.ready()
        one.process.send_signal(signal.SIGTERM)
        await one.says("stopping")
        assert await one.end(second) == 0

    assert "stopping at once" in one.said


async def test_many_signals_at_once_are_no_harm(tmp_path: Path) -> None:
    async with rig(tmp_path, stays("engine"), stays("gateway", "engine")) as one:
        await one.ready()
        assert await one.end(*[signal.SIGTERM, signal.SIGINT, signal.SIGHUP] * 20) == 0


async def test_a_leader_that_leaves_first_takes_its_stubborn_grandchildren_along(tmp_path: Path) -> None:
    grandchild = f"{IGNORES} echo $$ >> pids; touch up; {STAYS}"
    leader = sh("leader", f"sh -c '{grandchild}' & setsid sh -c '{grandchild}' & {STAYS}", ready="up", grace=0.2)

    async with rig(tmp_path, leader) as one:
        await one.ready()
        assert await one.end(signal.SIGTERM) == 0

    assert len(one.pids("pids")) >= 1


async def test_a_daemon_without_our_mark_does_not_get_away(tmp_path: Path) -> None:
    nobody = sh("nobody", f"env -i setsid sh -c '{IGNORES} touch up; {STAYS}' & exit 0", ready="never", patience=0)

    async with rig(tmp_path, nobody, stop_within=1) as one:
        assert await one.end() == 1


async def test_a_fork_bomb_at_the_stop_leaves_nothing(tmp_path: Path) -> None:
    splinter = f"{IGNORES} echo $$ >> pids; [ $1 -gt 5 ] || {{ setsid sh splinter $(($1 + 1)) & }}; {STAYS}"
    (tmp_path / "splinter").write_text(splinter)
    (tmp_path / "explode").write_text("for i in 1 2 3 4 5 6 7 8; do setsid sh splinter 1 & done; exit 0")
    bomb = sh("bomb", f"trap '. ./explode' TERM; touch up; {STAYS}", ready="up", grace=0.3)

    async with rig(tmp_path, bomb) as one:
        await one.ready()
        assert await one.end(signal.SIGTERM) == 0

    assert len(one.pids("pids")) > 8


async def test_a_stopped_child_ends_in_order(tmp_path: Path) -> None:
    async with rig(
        tmp_path, stays("engine"), sh("frozen", f"{NOTES} touch up; kill -STOP $$; {STAYS}", ready="up")
    ) as one:
        await one.ready()
        assert await one.end(signal.SIGTERM) == 0

    assert sorted(one.events) == ["+engine", "+frozen", "-engine", "-frozen"]


async def test_a_child_in_our_own_group_hears_of_ctrl_c_from_us_only(tmp_path: Path) -> None:
    async with rig(tmp_path, stays("engine"), stays("gateway", "engine")) as one:
        await one.ready()
        assert await one.end(signal.SIGINT) == 0

    assert one.events == ["+engine", "+gateway", "-gateway", "-engine"]


async def test_a_hangup_is_never_fatal_not_even_before_there_is_anything_to_reload(tmp_path: Path) -> None:
    async with rig(tmp_path, stays("engine"), stays("gateway", "engine") | {"ready": "go"}) as one:
        await one.makes("events")
        one.process.send_signal(signal.SIGHUP)
        await one.says("SIGHUP changes nothing now")
        (tmp_path / "go").touch()
        await one.ready()

        one.process.send_signal(signal.SIGHUP)
        await one.says("reload failed")  # there is no file that says what to restart
        (tmp_path / "restart").write_text("gateway")
        one.process.send_signal(signal.SIGHUP)
        await until(lambda: len(one.events) == 4)
        (tmp_path / "go").touch()
        await one.says("restarted gateway")
        assert await one.end(signal.SIGTERM) == 0

    assert one.events == ["+engine", "+gateway", "-gateway", "+gateway", "-gateway", "-engine"]


async def test_a_supervisor_that_is_killed_ends_its_container_with_an_error(tmp_path: Path) -> None:
    tini = which("tini")
    if tini is None:
        pytest.skip("needs tini")

    async with rig(tmp_path, stays("engine"), under=[tini, "-s", "--"]) as one:
        await one.ready()
        supervisor = next(proc.pid for proc in snapshot().values() if proc.ppid == one.process.pid)
        os.kill(supervisor, signal.SIGKILL)
        with anyio.fail_after(10):
            code = await one.process.wait()
        left = one.left()

    assert code == 128 + signal.SIGKILL
    assert left  # in a container the kernel ends it; on a volume's next start the sweep does
    assert one.left() == []
