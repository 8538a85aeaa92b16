import os
import signal
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from supervisor.services.output import Output
from supervisor.services.process import Command, running
from tests.services.children import alive, listed, pid_in, python, sh, until

pytestmark = pytest.mark.anyio

STUBBORN = 'trap "" TERM; '
# Leaves its group, its session and its parent, as daemons do.
DAEMON = """
import os, sys, time
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
open(sys.argv[1], "w").write(f"{os.getpid()}\\n")
time.sleep(60)
"""


async def test_an_exit_code_is_reported() -> None:
    with anyio.fail_after(20):
        async with running(sh("exit 3")) as process:
            code = await process.wait()

    assert code == 3


async def test_a_process_that_steps_back_does_so_among_all_sessions() -> None:
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    with anyio.fail_after(20):
        async with running(replace(sh("sleep 60"), nice=7)) as process:
            group = Path(f"/proc/{process.pid}/autogroup")
            assert os.getpriority(os.PRIO_PROCESS, process.pid) == max(7, ours)
            assert not group.exists() or group.read_text().endswith(f"nice {max(7, ours)}\n")

    assert os.getpriority(os.PRIO_PROCESS, 0) == ours


async def test_a_fatal_signal_is_reported_as_a_negative_number() -> None:
    with anyio.fail_after(20):
        async with running(sh("kill -KILL $$")) as process:
            code = await process.wait()

    assert code == -signal.SIGKILL


async def test_a_process_is_gone_and_buried_when_its_block_ends() -> None:
    with anyio.fail_after(20):
        async with running(sh("sleep 60")) as process:
            assert alive(process.pid)

    assert not listed(process.pid)
    assert process.returncode == -signal.SIGTERM


async def test_a_stubborn_grandchild_goes_although_its_leader_left_first(tmp_path: Path) -> None:
    script = sh(f"{STUBBORN} sleep 60 & echo $! > {tmp_path}/pid; exit 0")

    with anyio.fail_after(20):
        async with running(script, grace=0.2) as process:
            assert await process.wait() == 0
            grandchild = await pid_in(tmp_path / "pid")
            assert alive(grandchild)

    assert not listed(grandchild)


async def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    with anyio.fail_after(20):
        async with running(sh(f"{STUBBORN} echo $$ > {tmp_path}/pid; sleep 60"), grace=0.2) as process:
            await pid_in(tmp_path / "pid")

    assert process.returncode == -signal.SIGKILL


async def test_a_child_may_use_its_grace_to_tidy_up(tmp_path: Path) -> None:
    script = f"trap 'touch {tmp_path}/tidy; exit 7' TERM; echo $$ > {tmp_path}/pid; while :; do sleep 0.05; done"

    with anyio.fail_after(20):
        async with running(sh(script), grace=10) as process:
            await pid_in(tmp_path / "pid")

    assert process.returncode == 7
    assert (tmp_path / "tidy").exists()


async def test_a_grandchild_in_a_session_of_its_own_does_not_get_away(tmp_path: Path) -> None:
    script = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {DAEMON!r}, sys.argv[1]])"

    with anyio.fail_after(20):
        async with running(python(script, f"{tmp_path}/pid"), grace=5):
            daemon = await pid_in(tmp_path / "pid")

    assert not listed(daemon)


async def test_a_daemon_does_not_get_away_though_its_starter_has_ended(tmp_path: Path) -> None:
    with anyio.fail_after(20):
        async with running(python(DAEMON, f"{tmp_path}/pid"), grace=5) as process:
            await process.wait()
            daemon = await pid_in(tmp_path / "pid")
            assert alive(daemon)

    assert not listed(daemon)


async def test_a_daemon_of_one_process_outlives_the_end_of_another(tmp_path: Path) -> None:
    with anyio.fail_after(20):
        async with running(python(DAEMON, f"{tmp_path}/pid"), grace=5):
            daemon = await pid_in(tmp_path / "pid")
            async with running(sh("sleep 60")):
                pass
            assert alive(daemon)


async def test_a_stopped_process_ends_politely() -> None:
    with anyio.fail_after(20):
        async with running(sh("sleep 60"), grace=10) as process:
            os.kill(process.pid, signal.SIGSTOP)

    assert process.returncode == -signal.SIGTERM


async def test_a_grace_can_be_shortened_while_it_runs(tmp_path: Path) -> None:
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tg, running(sh(f"{STUBBORN} echo $$ > {tmp_path}/pid; sleep 60")) as p:
            p.grace = 1000.0
            await pid_in(tmp_path / "pid")

            async def shorten() -> None:
                p.grace = 0.0

            tg.start_soon(shorten)

    assert p.returncode == -signal.SIGKILL


async def test_two_quick_cancellations_leave_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        async with running(sh(f"{STUBBORN} echo $$ > {tmp_path}/pid; sleep 60"), grace=0.3):
            await anyio.sleep_forever()

    with anyio.fail_after(20), anyio.CancelScope() as outer:
        async with anyio.create_task_group() as tg:
            tg.start_soon(run)
            leader = await pid_in(tmp_path / "pid")
            tg.cancel_scope.cancel()
            await anyio.lowlevel.cancel_shielded_checkpoint()
            outer.cancel()

    assert not listed(leader)


async def test_an_error_in_the_block_arrives_as_it_is() -> None:
    with anyio.fail_after(20), pytest.raises(LookupError, match="mine"):
        async with running(sh("sleep 60"), output=Output("shell")):
            raise LookupError("mine")


async def test_a_missing_program_leaves_nothing_open() -> None:
    before = set(Path("/proc/self/fd").iterdir())

    with pytest.raises(FileNotFoundError, match="no-such-program"):
        async with running(Command(("no-such-program",)), output=Output("nothing")):
            pytest.fail("it cannot have been started")

    assert set(Path("/proc/self/fd").iterdir()) <= before


async def test_a_child_gets_the_environment_of_its_command_and_the_mark_of_its_owner() -> None:
    output = Output("env")

    with anyio.fail_after(20):
        async with running(Command(("/usr/bin/env",), env={"A": "1"}), output=output, owner="us") as process:
            await process.wait()

    assert sorted(output.tail) == ["A=1", f"CLAWLAMA_OWNER={process.mark}"]
    assert process.mark.startswith("us#")


async def test_a_stolen_exit_status_is_no_reason_to_wait_for_ever() -> None:
    with anyio.fail_after(20):
        async with running(sh("exit 3")) as process:
            os.waitpid(process.pid, 0)  # noqa: ASYNC222 - the theft
            code = await process.wait()

    assert code == 255


async def test_many_processes_at_once_keep_their_exit_codes_apart() -> None:
    codes: dict[int, int] = {}

    async def run(code: int) -> None:
        async with running(sh(f"(sleep 0.0{code} &) ; exit {code}")) as process:
            codes[code] = await process.wait()

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tg:
            for code in range(40):
                tg.start_soon(run, code)

    assert codes == {code: code for code in range(40)}


async def test_a_stranger_holding_the_pipe_does_not_hold_us(tmp_path: Path) -> None:
    stranger = DAEMON.replace("import os", "import os; os.environ.clear()\nimport os", 1)
    hide = "import os, sys; os.execve(sys.executable, [sys.executable, '-c', *sys.argv[1:]], {})"
    output = Output("daemon")

    with anyio.fail_after(20):
        async with running(python(hide, stranger, f"{tmp_path}/pid"), output=output) as process:
            await process.wait()
            pid = await pid_in(tmp_path / "pid")

    os.kill(pid, signal.SIGKILL)  # without its mark it is nobody's; reaper.end_descendants gets it in the end
    await until(lambda: not alive(pid))


async def test_nobody_is_asked_twice_and_a_farewell_may_start_programs(tmp_path: Path) -> None:
    bye = f"echo asked >> {tmp_path}/asked; for i in 1 2 3; do sh -c 'sleep 0.05; echo done >> {tmp_path}/done'; done"

    with anyio.fail_after(20):
        script = f"trap '{bye.replace(chr(39), chr(34))}; exit 7' TERM; echo $$ > {tmp_path}/pid;"
        async with running(sh(f"{script} while :; do sleep 0.02; done"), grace=15) as process:
            await pid_in(tmp_path / "pid")

    assert process.returncode == 7
    assert (tmp_path / "asked").read_text() == "asked\n"
    assert (tmp_path / "done").read_text() == "done\n" * 3
