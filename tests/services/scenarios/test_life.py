"""What happens in between: crashes, floods, hangs, and people who restart things."""

import os
import signal
from pathlib import Path

import pytest

from supervisor.services.proc import snapshot
from tests.fakes.ports import free_port
from tests.services.children import alive, until
from tests.services.scenarios.rigs import IGNORES, NOTES, PATIENCE, STAYS, Rig, rig, sh, stays

pytestmark = pytest.mark.anyio

LIMIT = 100_000  # bytes of one log file
FILES = 3

# Answers every request in a second as it does in the first; stops itself when it finds a file.
SERVER = """
import http.server, os, signal, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if os.path.exists("hang"):
            os.remove("hang")
            os.kill(os.getpid(), signal.SIGSTOP)
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass
with open("pids", "a") as file:
    print(os.getpid(), file=file)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""

# A hundred shells leave a hundred children each, which end as soon as they can.
ORPHANS = """
i=0
while [ $i -lt 100 ]; do
  sh -c 'j=0; while [ $j -lt 100 ]; do : & j=$((j + 1)); done'
  i=$((i + 1))
done
touch orphaned
"""


async def test_a_crash_loop_ends_everything_with_the_exit_code_of_the_culprit(tmp_path: Path) -> None:
    falling = sh("falling", 'echo "+$0" >> events; echo no such model; exit 7', ready="never", needs=["engine"])

    async with rig(tmp_path, stays("engine"), falling) as one:
        code = await one.end()

    assert code == 7
    assert one.events == ["+engine", "+falling", "+falling", "+falling", "-engine"]
    assert "error: falling: failed 3 times in a row, last: exit code 7\n  no such model" in one.said


async def test_what_dies_of_a_signal_ends_everything_with_128_and_its_number(tmp_path: Path) -> None:
    async with rig(tmp_path, stays("engine"), sh("falling", "kill -SEGV $$", ready="never")) as one:
        assert await one.end() == 128 + signal.SIGSEGV


async def test_exit_78_is_explained_and_not_repeated(tmp_path: Path) -> None:
    refuses = sh("gateway", 'echo "+$0" >> events; exit 78', ready="never", fatal_exits={78: "its config is refused"})

    async with rig(tmp_path, refuses) as one:
        assert await one.end() == 78

    assert one.events == ["+gateway"]
    assert "error: gateway: exit code 78: its config is refused" in one.said


async def test_exit_0_means_start_me_again(tmp_path: Path) -> None:
    again = sh("gateway", f"{NOTES} [ -e once ] || {{ touch once; exit 0; }}; touch up; {STAYS}", ready="up")

    async with rig(tmp_path, again) as one:
        await one.ready()
        assert await one.end(signal.SIGTERM) == 0

    assert one.events == ["+gateway", "+gateway", "-gateway"]


async def test_an_optional_service_may_fail_without_the_others(tmp_path: Path) -> None:
    async with rig(tmp_path, sh("telegram", "exit 3", ready="never", essential=False), stays("engine")) as one:
        await one.ready()
        assert "service given up, the others stay" in one.said
        assert await one.end(signal.SIGTERM) == 0

    assert one.events == ["+engine", "-engine"]


async def test_grandchildren_of_a_leader_that_crashed_are_gone_before_the_next_starts(tmp_path: Path) -> None:
    grandchild = f"{IGNORES} mkdir alone || touch overlap; trap 'rmdir alone' EXIT; echo $$ >> pids; {STAYS}"
    (tmp_path / "grandchild").write_text(grandchild.replace(IGNORES, "trap 'rmdir alone; exit' TERM;", 1))
    leader = sh("leader", f"setsid sh grandchild & {STAYS}")

    async with rig(tmp_path, leader) as one:
        await one.ready()
        for count in (1, 2):
            await until(lambda count=count: len(one.pids("pids")) == count)  # type: ignore[misc]
            os.kill(leader_pid(one), signal.SIGKILL)
        await until(lambda: len(one.pids("pids")) == 3)
        assert [alive(pid) for pid in one.pids("pids")] == [False, False, True]
        assert await one.end(signal.SIGTERM) == 0

    assert not (tmp_path / "overlap").exists()


async def test_a_child_that_the_kernel_killed_is_started_again(tmp_path: Path) -> None:
    async with rig(tmp_path, stays("engine")) as one:
        await one.ready()
        os.kill(leader_pid(one), signal.SIGKILL)  # as it does when memory runs out
        await one.says('"state": "ready"', times=2)
        assert await one.end(signal.SIGTERM) == 0

    assert "SIGKILL (out of memory?)" in one.said
    assert one.events == ["+engine", "+engine", "-engine"]


async def test_restarts_that_meet_never_make_two_of_one(tmp_path: Path) -> None:
    leave = 'rmdir alone; echo "-$0" >> events; exit 0'
    script = f"mkdir alone || touch overlap; trap '{leave}' TERM; echo \"+$0\" >> events; touch up; {STAYS}"
    (tmp_path / "restart").write_text("engine engine engine")

    async with rig(tmp_path, sh("engine", script, ready="up")) as one:
        await one.ready()
        for _ in range(10):
            one.process.send_signal(signal.SIGHUP)
        await one.says("restarted engine engine engine")
        assert await one.end(signal.SIGTERM) == 0

    assert not (tmp_path / "overlap").exists()
    assert one.events.count("+engine") == one.events.count("-engine") >= 2


async def test_a_stop_in_the_middle_of_a_restart_is_a_stop(tmp_path: Path) -> None:
    (tmp_path / "restart").write_text("engine")
    slow = f"trap 'touch leaving; sleep 0.3; exit 0' TERM; echo x >> starts; touch up; {STAYS}"

    async with rig(tmp_path, sh("engine", slow, ready="up")) as one:
        await one.ready()
        one.process.send_signal(signal.SIGHUP)
        await one.makes("leaving")
        assert await one.end(signal.SIGTERM) == 0

    assert (tmp_path / "starts").read_text() == "x\n"


async def test_a_child_that_closes_its_output_is_not_taken_for_dead(tmp_path: Path) -> None:
    async with rig(tmp_path, sh("mute", f"{NOTES} exec >&- 2>&-; touch up; {STAYS}", ready="up")) as one:
        await one.ready()
        (tmp_path / "restart").write_text("mute")
        one.process.send_signal(signal.SIGHUP)
        await one.says("restarted mute")
        assert await one.end(signal.SIGTERM) == 0

    assert one.events == ["+mute", "-mute", "+mute", "-mute"]


async def test_a_pipe_that_somebody_keeps_open_holds_nobody_up(tmp_path: Path) -> None:
    keeper = f"env -i setsid sh -c '{IGNORES} echo $$ >> pids; {STAYS}' &"
    script = f"{NOTES} {keeper} while [ ! -e pids ]; do sleep 0.02; done; [ -e once ] || {{ touch once; exit 1; }};"

    async with rig(tmp_path, sh("leaky", f"{script} touch up; {STAYS}", ready="up")) as one:
        await one.ready()
        assert await one.end(signal.SIGTERM) == 0

    assert one.events == ["+leaky", "+leaky", "-leaky"]
    assert one.pids("pids")


async def test_a_flood_of_output_slows_its_writer_and_nobody_else(tmp_path: Path) -> None:
    flood = sh("flood", f"echo $$ > pids; exec yes '{'x' * 120}'", log_limit=LIMIT)

    async with rig(tmp_path, flood, stays("gateway", "flood")) as one:
        await one.ready()
        logs = tmp_path / "logs"
        written = f"/proc/{one.pids('pids')[0]}/io"
        await until(lambda: (logs / "flood.2").exists() and written_by(written) > 20_000_000, PATIENCE)
        kept = sum(size(path) for path in logs.glob("flood*"))
        rss = snapshot()[one.process.pid].rss
        assert await one.end(signal.SIGTERM) == 0

    assert kept <= FILES * LIMIT
    assert rss < 100_000_000
    assert one.events == ["+gateway", "-gateway"]


async def test_ten_thousand_orphans_are_buried(tmp_path: Path) -> None:
    (tmp_path / "orphans").write_text(ORPHANS)

    async with rig(tmp_path, sh("parent", "sh orphans; exec sleep 60", ready="orphaned")) as one:
        await one.ready()
        await until(lambda: one.zombies() == 0, PATIENCE)
        assert await one.end(signal.SIGTERM) == 0


async def test_a_child_that_hangs_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "server.py").write_text(SERVER)
    url = f"http://127.0.0.1:{free_port()}/"
    server = sh("server", f"exec python3 server.py {url[17:-1]}", ready=url, alive=url)

    async with rig(tmp_path, server) as one:
        await one.ready()
        (tmp_path / "hang").touch()
        await one.says('"state": "hanging"')
        await one.says('"state": "ready"', times=2)
        assert await one.end(signal.SIGTERM) == 0

    assert "no answer within 0.5 s, 2 times in a row" in one.said
    assert len(one.pids("pids")) == 2


def size(path: Path) -> int:
    """0 for one that was renamed meanwhile."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def leader_pid(one: Rig) -> int:
    return next(proc.pid for proc in snapshot().values() if proc.ppid == one.process.pid and proc.session == proc.pid)


def written_by(io: str) -> int:
    """Bytes that a process has written so far."""
    return next(int(line.split()[1]) for line in Path(io).read_text().splitlines() if line.startswith("wchar"))
