import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest

from supervisor.errors import CrashLoop
from supervisor.services.proc import environment_value, snapshot
from supervisor.services.restart import RestartPolicy
from supervisor.services.service import Service
from supervisor.services.tree import Tree
from tests.services.children import alive, appears, kept, listed, never, pid_in, service, until

pytestmark = pytest.mark.anyio

# A whole supervisor in small: two services, one of them with a daemon, and signals as the button to stop.
SUPERVISOR = """
import signal, sys, anyio
from pathlib import Path
from tests.services.children import appears, service
from supervisor.services.tree import Tree

folder = Path(sys.argv[1])

def one(name):
    script = f"setsid sleep 60 & echo $$ > {folder}/{name}.pid; touch {folder}/{name}.up; sleep 60; wait"
    made = service(name, script, appears(folder / f"{name}.up"))
    made.owner = str(folder)
    return made

async def main():
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        (folder / "begun").touch()
        async with anyio.create_task_group() as tg:
            tg.start_soon(Tree([one("engine"), one("gateway")]).run)
            async for _ in signals:
                tg.cancel_scope.cancel()

anyio.run(main)
"""

NAMES = ("engine", "api", "gateway")


def noting(name: str, folder: Path, *, answers: Callable[[], Awaitable[None]] | None = None) -> Service:
    """Notes in ``folder/events`` when it starts and when it is told to stop."""
    script = (
        f"trap 'echo -{name} >> {folder}/events; exit 0' TERM; echo +{name} >> {folder}/events;"
        f"echo $$ > {folder}/{name}.pid; touch {folder}/{name}.up; while :; do sleep 0.02; done"
    )
    return service(name, script, answers or appears(folder / f"{name}.up"))


def stubborn(name: str, folder: Path) -> Service:
    script = f"trap '' TERM; echo $$ > {folder}/{name}.pid; touch {folder}/{name}.up; sleep 60"
    return service(name, script, appears(folder / f"{name}.up"))


def events(folder: Path) -> list[str]:
    return (folder / "events").read_text().split()


async def test_services_start_in_order_and_stop_in_reverse(tmp_path: Path) -> None:
    tree = Tree([noting(name, tmp_path) for name in NAMES])

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tg:
            await tg.start(tree.run)
            states = [status.state for status in tree.status()]
            tg.cancel_scope.cancel()

    assert states == ["ready"] * 3
    assert events(tmp_path) == ["+engine", "+api", "+gateway", "-gateway", "-api", "-engine"]
    assert [status.state for status in tree.status()] == ["stopped"] * 3


async def test_nothing_starts_before_the_one_it_needs_is_ready(tmp_path: Path) -> None:
    tree = Tree([noting("engine", tmp_path, answers=never), noting("api", tmp_path)])

    async with kept(tree):
        await pid_in(tmp_path / "engine.pid")
        assert [status.state for status in tree.status()] == ["starting", "waiting"]

    assert events(tmp_path) == ["+engine", "-engine"]


async def test_a_need_that_is_never_met_ends_the_tree_by_name(tmp_path: Path) -> None:
    deaf = noting("api", tmp_path, answers=never)
    deaf.start_timeout, deaf.policy = 0.3, RestartPolicy(patience=1, first_pause=0.01)
    tree = Tree([noting("engine", tmp_path), deaf, noting("gateway", tmp_path)])

    with anyio.fail_after(30), pytest.raises(CrashLoop, match="api: failed 2 times in a row"):
        await tree.run()

    assert "+gateway" not in events(tmp_path)
    assert events(tmp_path)[-1] == "-engine"


async def test_one_crash_loop_stops_the_others_in_reverse(tmp_path: Path) -> None:
    falling = service("falling", "exit 1", never)
    falling.policy = RestartPolicy(patience=1, first_pause=0.01)
    tree = Tree([noting("engine", tmp_path), noting("api", tmp_path), falling])

    with anyio.fail_after(30), pytest.raises(CrashLoop) as caught:
        await tree.run()

    assert caught.value.service == "falling"
    assert events(tmp_path) == ["+engine", "+api", "-api", "-engine"]
    assert [status.state for status in tree.status()] == ["stopped", "stopped", "failed"]


async def test_a_service_that_falls_after_the_start_takes_the_tree_with_it(tmp_path: Path) -> None:
    falling = noting("api", tmp_path)
    falling.policy = RestartPolicy(patience=0)
    tree = Tree([noting("engine", tmp_path), falling])

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tg:
            tg.start_soon(fall, tmp_path / "api.pid")
            with pytest.raises(CrashLoop, match=r"api: .*SIGKILL"):
                await tree.run()

    assert events(tmp_path)[-1] == "-engine"


async def fall(pidfile: Path) -> None:
    os.kill(await pid_in(pidfile), signal.SIGKILL)


async def test_the_global_deadline_holds_with_three_stubborn_services(tmp_path: Path) -> None:
    tree = Tree([stubborn(name, tmp_path) for name in NAMES], stop_within=1.2)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tg:
            await tg.start(tree.run)
            pids = [await pid_in(tmp_path / f"{name}.pid") for name in NAMES]
            began = anyio.current_time()
            tg.cancel_scope.cancel()
    took = anyio.current_time() - began

    assert not any(listed(pid) for pid in pids)
    assert took < 5  # each alone would have been given as much


async def test_a_deadline_shortens_an_end_that_has_already_begun(tmp_path: Path) -> None:
    one = stubborn("engine", tmp_path)
    one.grace = 1000
    tree = Tree([one], stop_within=0.3)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tg:
            await tg.start(tree.run)
            tg.start_soon(one.restart)
            await until(lambda: one.status().state == "stopping")
            tg.cancel_scope.cancel()

    assert not listed(await pid_in(tmp_path / "engine.pid"))


async def test_two_quick_cancellations_still_stop_in_order(tmp_path: Path) -> None:
    tree = Tree([noting(name, tmp_path) for name in NAMES])

    with anyio.fail_after(30), anyio.CancelScope() as outer:
        async with anyio.create_task_group() as tg:
            await tg.start(tree.run)
            tg.cancel_scope.cancel()
            await anyio.lowlevel.cancel_shielded_checkpoint()
            outer.cancel()

    assert events(tmp_path)[3:] == ["-gateway", "-api", "-engine"]


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5, 8, 13, 40, 100, 300, 1000, 3000])
async def test_cancelling_at_any_moment_of_the_start_leaves_nothing(tmp_path: Path, steps: int) -> None:
    tree = Tree([noting(name, tmp_path) for name in NAMES])

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tg:
            tg.start_soon(tree.run)
            for _ in range(steps):
                await anyio.lowlevel.checkpoint()
            seen = [status.pid for status in tree.status() if status.pid is not None]
            tg.cancel_scope.cancel()

    started = {int(path.read_text() or 0) for path in tmp_path.glob("*.pid")} | set(seen)
    assert not any(listed(pid) for pid in started)
    assert not any(alive(status.pid) for status in tree.status() if status.pid is not None)


@pytest.mark.parametrize("moment", ["begun", "engine.pid", "gateway.pid"])
@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGINT, signal.SIGTERM, signal.SIGINT]])
async def test_a_signal_at_any_moment_leaves_no_process(
    tmp_path: Path, moment: str, signals: list[signal.Signals]
) -> None:
    code = [sys.executable, "-W", "error", "-c", SUPERVISOR, str(tmp_path)]
    with anyio.fail_after(30):
        async with await anyio.open_process(code) as supervisor:
            await until((tmp_path / moment).exists)
            for number in signals:
                supervisor.send_signal(number)
            assert await supervisor.wait() == 0

    left = [pid for pid in snapshot() if (environment_value(pid, "CLAWLAMA_OWNER") or "").startswith(f"{tmp_path}#")]
    assert left == []


async def test_a_tree_without_services_waits_to_be_cancelled() -> None:
    tree = Tree([])

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tg:
            await tg.start(tree.run)
            tg.cancel_scope.cancel()

    assert tree.status() == ()
