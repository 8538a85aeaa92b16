import os
import re
import signal
from pathlib import Path

import anyio
import pytest

from supervisor.errors import CrashLoop, EngineError, ServiceError
from supervisor.services.output import Output
from supervisor.services.process import Command
from supervisor.services.restart import RestartPolicy
from supervisor.services.service import Service
from tests.services.children import alive, appears, at_once, kept, listed, never, pid_in, service, sh, until

pytestmark = pytest.mark.anyio

HASTY = RestartPolicy(patience=2, first_pause=0.01, longest_pause=0.01)


def stays(folder: Path) -> Service:
    """Writes its pid to ``folder/pids`` at every start, then stays."""
    return service("stays", f"echo $$ >> {folder}/pids; touch {folder}/up; exec sleep 60", appears(folder / "up"))


def pids(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "pids").read_text().split()]


async def test_a_service_reports_when_it_serves(tmp_path: Path) -> None:
    one = stays(tmp_path)
    assert one.status().state == "waiting"

    async with kept(one):
        await one.wait_ready()
        status = one.status()

    assert status.state == "ready"
    assert [status.pid] == pids(tmp_path)
    assert status.rss is not None
    assert status.rss > 0
    assert status.uptime is not None
    assert status.ready_after is not None
    assert 0 < status.ready_after <= status.uptime


async def test_cancelling_a_service_ends_its_process(tmp_path: Path) -> None:
    one = stays(tmp_path)

    async with kept(one):
        await one.wait_ready()

    assert not listed(pids(tmp_path)[0])
    assert (one.status().state, one.status().pid, one.status().last_exit) == ("stopped", None, -signal.SIGTERM)


async def test_a_killed_process_is_started_again(tmp_path: Path) -> None:
    one = stays(tmp_path)
    one.policy = RestartPolicy(first_pause=0.01)

    async with kept(one):
        await one.wait_ready()
        os.kill(pids(tmp_path)[0], signal.SIGKILL)
        await until(lambda: one.status().restarts == 1)
        await one.wait_ready()
        status = one.status()

    assert status.last_exit == -signal.SIGKILL
    assert len(pids(tmp_path)) == 2


async def test_a_crash_loop_names_the_service_and_its_last_words() -> None:
    one = service("engine", "echo cannot open model.gguf; exit 3", never)
    one.policy = HASTY

    with anyio.fail_after(20), pytest.raises(CrashLoop) as caught:
        await one.run()

    assert str(caught.value).startswith("engine: failed 3 times in a row, last: exit code 3\n")
    assert "cannot open model.gguf" in str(caught.value)
    assert (one.status().state, one.status().restarts) == ("failed", 2)


async def test_those_who_wait_learn_why_it_will_never_be_ready() -> None:
    one = service("engine", "exit 3", never)
    one.policy = HASTY
    problems: list[ServiceError] = []

    async def wait() -> None:
        with pytest.raises(CrashLoop) as caught:
            await one.wait_ready()
        problems.append(caught.value)

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tg:
            tg.start_soon(wait)
            with pytest.raises(CrashLoop):
                await one.run()

    assert [problem.service for problem in problems] == ["engine"]


async def test_exit_zero_means_start_me_again() -> None:
    one = service("gateway", "exit 0")
    one.policy = HASTY

    with anyio.fail_after(20), pytest.raises(CrashLoop, match="exit code 0"):
        await one.run()

    assert one.status().restarts == 2


async def test_a_fatal_exit_is_explained_and_not_repeated() -> None:
    one = service("gateway", "echo unknown key; exit 78")
    one.fatal_exits = {78: "its configuration is refused; run clawlama doctor"}

    with anyio.fail_after(20), pytest.raises(ServiceError, match="gateway: exit code 78: its configuration is refused"):
        await one.run()

    assert one.status().restarts == 0


async def test_a_fatal_exit_with_an_excuse_is_a_failure_like_others() -> None:
    one = service("gateway", "echo its helper was late; exit 78")
    one.fatal_exits, one.excuse, one.policy = {78: "its configuration is refused"}, re.compile("was late"), HASTY

    with anyio.fail_after(20), pytest.raises(CrashLoop, match="exit code 78"):
        await one.run()

    assert one.status().restarts == 2


async def test_a_service_that_never_answers_is_ended_and_given_up(tmp_path: Path) -> None:
    one = service("deaf", f"echo $$ >> {tmp_path}/pids; exec sleep 60", never)
    one.policy, one.start_timeout = HASTY, 0.2

    with anyio.fail_after(20), pytest.raises(CrashLoop, match=r"deaf: .*no answer within 0\.2 s"):
        await one.run()

    assert len(pids(tmp_path)) == 3
    assert not any(listed(pid) for pid in pids(tmp_path))


async def test_a_missing_program_is_named_at_once() -> None:
    one = Service("engine", lambda: Command(("/no/such/engine",)), at_once, Output("engine"))

    with anyio.fail_after(20), pytest.raises(ServiceError, match="engine: cannot start /no/such/engine"):
        await one.run()


async def test_a_probe_that_knows_better_ends_the_service() -> None:
    async def answers() -> None:
        raise EngineError("model.gguf is damaged; pull it again")

    one = service("engine", "exec sleep 60", answers)

    with anyio.fail_after(20), pytest.raises(EngineError, match="damaged"):
        await one.run()

    assert one.status().state == "failed"


async def test_a_restart_runs_the_command_of_the_moment(tmp_path: Path) -> None:
    words = ["first"]
    script = f"echo {{}} >> {tmp_path}/words; touch {tmp_path}/up; exec sleep 60"
    one = Service("w", lambda: sh(script.format(words[-1])), appears(tmp_path / "up"), Output("w"))

    async with kept(one):
        await one.wait_ready()
        words.append("second")
        await one.restart()

    assert (tmp_path / "words").read_text().split() == ["first", "second"]


async def test_concurrent_restarts_are_one(tmp_path: Path) -> None:
    one = stays(tmp_path)

    async with kept(one):
        await one.wait_ready()
        async with anyio.create_task_group() as tg:
            for _ in range(5):
                tg.start_soon(one.restart)
        status = one.status()
        living = [pid for pid in pids(tmp_path) if alive(pid)]

    assert len(pids(tmp_path)) == 2
    assert living == [status.pid]
    assert (status.state, status.restarts) == ("ready", 0)


async def test_a_restart_while_it_starts_replaces_the_start(tmp_path: Path) -> None:
    slow = f"echo $$ >> {tmp_path}/pids; if [ -e {tmp_path}/quick ]; then touch {tmp_path}/up; fi; exec sleep 60"
    one = service("slow", slow, appears(tmp_path / "up"))

    async with kept(one):
        await pid_in(tmp_path / "pids")
        (tmp_path / "quick").touch()
        await one.restart()

    assert len(pids(tmp_path)) == 2


async def test_restarts_do_not_count_as_failures(tmp_path: Path) -> None:
    one = stays(tmp_path)
    one.policy = HASTY

    async with kept(one):
        await one.wait_ready()
        for _ in range(5):
            await one.restart()

    assert len(pids(tmp_path)) == 6


async def test_a_restart_cuts_a_long_back_off_short(tmp_path: Path) -> None:
    one = stays(tmp_path)
    one.policy = RestartPolicy(first_pause=1000.0, longest_pause=1000.0)

    async with kept(one):
        await one.wait_ready()
        os.kill(pids(tmp_path)[0], signal.SIGKILL)
        await until(lambda: one.status().state == "backing_off")
        await one.restart()

    assert len(pids(tmp_path)) == 2


async def test_a_paused_service_stays_down_until_it_is_resumed(tmp_path: Path) -> None:
    one = stays(tmp_path)

    async with kept(one):
        await one.wait_ready()
        await one.pause()
        assert (one.status().state, one.status().pid) == ("paused", None)
        assert not listed(pids(tmp_path)[0])
        with pytest.raises(ServiceError, match="resume it"):
            await one.restart()

        await one.resume()
        assert (one.status().state, one.status().restarts) == ("ready", 0)

    assert len(pids(tmp_path)) == 2


async def test_pausing_and_resuming_twice_is_the_same_as_once(tmp_path: Path) -> None:
    one = stays(tmp_path)

    async with kept(one):
        await one.wait_ready()
        async with anyio.create_task_group() as tg:
            tg.start_soon(one.pause)
            tg.start_soon(one.pause)
        async with anyio.create_task_group() as tg:
            tg.start_soon(one.resume)
            tg.start_soon(one.resume)
        await one.resume()

    assert len(pids(tmp_path)) == 2


async def test_a_pause_taken_back_at_once_leaves_the_service_ready(tmp_path: Path) -> None:
    one = stays(tmp_path)

    async with kept(one):
        await one.wait_ready()
        async with anyio.create_task_group() as tg:
            tg.start_soon(one.pause)
            tg.start_soon(one.resume)
        status = one.status()
        assert status.pid == pids(tmp_path)[-1]
        assert alive(status.pid)

    assert status.state == "ready"


async def test_waiting_for_a_stopped_service_fails_instead_of_hanging(tmp_path: Path) -> None:
    one = stays(tmp_path)
    async with kept(one):
        await one.wait_ready()

    for wait in (one.wait_ready, one.restart, one.resume):
        with anyio.fail_after(5), pytest.raises(ServiceError, match="stays: is stopped"):
            await wait()
