import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from supervisor.services.proc import snapshot
from supervisor.services.process import running
from supervisor.services.reaper import adopt_orphans, bury_orphans, keep_burying_orphans, sweep
from tests.fakes.ports import free_port
from tests.services.children import alive, listed, pid_in, python, sh, until

pytestmark = pytest.mark.anyio

# Starts what stands in its last argument under an owner, and waits to be killed.
SUPERVISOR = """
import sys, anyio
from supervisor.services.process import Command, running

async def main():
    async with running(Command(("/bin/sh", "-c", sys.argv[2])), owner=sys.argv[1]) as process:
        await process.wait()
        await anyio.sleep_forever()

anyio.run(main)
"""

# What a supervisor could overlook: a child with a cleared environment that left its session and its parent.
LAST_ACT = """
import os, subprocess, sys, anyio
from supervisor.services.reaper import adopt_orphans, end_descendants

async def main():
    adopt_orphans()
    tree = "trap '' TERM; sleep 60 & env -i setsid sleep 60 & wait"
    subprocess.Popen(["/bin/sh", "-c", tree], start_new_session=True)
    daemon = "import os, time; os.fork() and os._exit(0); os.setsid(); os.fork() and os._exit(0); time.sleep(60)"
    subprocess.Popen([sys.executable, "-c", daemon], env={})
    while len(below()) < 4:
        await anyio.sleep(0.01)
    pids = below()
    killed = await end_descendants()
    print(len(below()), set(pids) <= set(killed) | {p for p in pids if not os.path.exists(f"/proc/{p}")})

def below():
    from supervisor.services.proc import snapshot, with_descendants
    return with_descendants([os.getpid()], snapshot()) - {os.getpid()}

anyio.run(main)
"""


def zombies() -> list[int]:
    return [proc.pid for proc in snapshot().values() if proc.ppid == os.getpid() and proc.dead]


async def test_nothing_stays_a_zombie_after_many_orphans() -> None:
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tg:
            tg.start_soon(keep_burying_orphans, 0.05)
            async with running(sh("i=0; while [ $i -lt 500 ]; do (true & ); i=$((i+1)); done")) as process:
                assert await process.wait() == 0
                await until(lambda: zombies() == [process.pid])
            tg.cancel_scope.cancel()

    assert zombies() == []


async def test_burying_steals_no_exit_status_from_asyncio() -> None:
    adopt_orphans()
    codes: list[int] = []

    async def ask(code: int) -> None:
        codes.append((await anyio.run_process(["/bin/sh", "-c", f"(true &); exit {code}"], check=False)).returncode)

    with anyio.fail_after(60):
        async with anyio.create_task_group() as burial:
            burial.start_soon(keep_burying_orphans, 0.0)
            async with anyio.create_task_group() as tg:
                for code in range(30):
                    tg.start_soon(ask, code)
            burial.cancel_scope.cancel()

    assert sorted(codes) == list(range(30))


def test_burying_without_any_child_does_nothing() -> None:
    assert bury_orphans() == []


async def test_a_sweep_finds_what_a_killed_supervisor_left(tmp_path: Path) -> None:
    adopt_orphans()
    script = f"trap '' TERM; setsid sh -c 'echo $$ > {tmp_path}/far; sleep 60' & echo $$ > {tmp_path}/near; wait"
    async with await anyio.open_process([sys.executable, "-c", SUPERVISOR, "house-1", script]) as supervisor:
        near, far = await pid_in(tmp_path / "near"), await pid_in(tmp_path / "far")
        supervisor.kill()

    assert alive(near)
    assert alive(far)
    assert {near, far} <= set(sweep("house-1"))
    assert not listed(near)
    assert not listed(far)


async def test_a_sweep_leaves_other_owners_and_ourselves_alone(tmp_path: Path) -> None:
    with anyio.fail_after(20):
        async with running(sh(f"echo $$ > {tmp_path}/pid; sleep 60"), owner="house-2") as neighbour:
            await pid_in(tmp_path / "pid")

            assert sweep("house-3") == []
            assert sweep("house") == []
            assert alive(neighbour.pid)


async def test_a_sweep_spares_those_it_was_called_from() -> None:
    code = "from supervisor.services.reaper import sweep; print(sweep('house-4'))"

    with anyio.fail_after(30):
        async with running(python(code), owner="house-4") as process:
            assert await process.wait() == 0


def test_the_last_act_leaves_no_descendant() -> None:
    done = subprocess.run([sys.executable, "-c", LAST_ACT], capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout == "0 True\n"
    assert done.stderr == ""


async def test_a_dead_leader_waits_for_its_own_block_to_collect_it() -> None:
    with anyio.fail_after(20):
        async with running(sh("exit 5")) as process:
            await process.wait()
            bury_orphans()
            assert listed(process.pid)

    assert process.returncode == 5


HEAVY = """
import socket, sys, time
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
memory = bytearray(300_000_000)
memory[::4096] = b"x" * len(memory[::4096])
open(sys.argv[2], "w").write("up\\n")
time.sleep(60)
"""


def test_a_sweep_waits_for_the_ports_of_one_that_somebody_else_has_just_killed(tmp_path: Path) -> None:
    port = free_port()
    heavy = subprocess.Popen([sys.executable, "-c", HEAVY, str(port), str(tmp_path / "up")])
    while not (tmp_path / "up").exists():
        assert heavy.poll() is None
    heavy.kill()

    assert sweep("house-5") == []
    with socket.create_server(("127.0.0.1", port)):
        assert heavy.wait() == -signal.SIGKILL
