import re
from pathlib import Path

import anyio
import pytest

from supervisor.errors import CrashLoop, EngineError
from supervisor.services.output import Output
from supervisor.services.readiness import EndsWell, Liveness, Probe, Readiness, SaysLine, WritesNewline, armed
from supervisor.services.restart import RestartPolicy
from supervisor.services.service import Service
from tests.services.children import kept, listed, pid_in, python, service, until

pytestmark = pytest.mark.anyio

HASTY = RestartPolicy(patience=1, first_pause=0.01)
TELLS = 'import os, time; os.write(int(os.environ["CLAWLAMA_READY_FD"]), {!r}); time.sleep(60)'


async def test_a_line_of_output_makes_a_service_ready() -> None:
    one = service("line", "echo not yet; echo listening on 8080; exec sleep 60", SaysLine(re.compile(r"on \d+$")))

    async with kept(one):
        await one.wait_ready()

    assert list(one.output.tail) == ["not yet", "listening on 8080"]
    assert one.output.listeners == []


async def test_a_line_of_the_process_before_does_not_count() -> None:
    output = Output("line")
    output.feed(b"up\n")

    with armed(SaysLine(re.compile("up")), output) as attention:
        with anyio.move_on_after(0.05) as patience:
            await attention.ready()
        output.feed(b"up\n")
        with anyio.fail_after(5):
            await attention.ready()

    assert patience.cancelled_caught


async def test_a_newline_on_a_descriptor_makes_a_service_ready_and_it_may_go_on_writing() -> None:
    one = Service("fd", lambda: python(TELLS.format(b"up\n" * 5000)), WritesNewline(), Output("fd"))

    async with kept(one):
        await one.wait_ready()


async def test_a_service_that_closes_its_descriptor_unused_is_not_ready() -> None:
    code = TELLS.format(b"no line break").replace("time.sleep", "os.closerange(3, 20); time.sleep")
    one = Service("fd", lambda: python(code), WritesNewline(), Output("fd"), start_timeout=0.5, policy=HASTY)

    with anyio.fail_after(20), pytest.raises(CrashLoop, match=r"no answer within 0\.5 s"):
        await one.run()


@pytest.mark.parametrize("how", [SaysLine(re.compile("up")), WritesNewline(), EndsWell()])
async def test_each_start_leaves_nothing_open(how: Readiness) -> None:
    before = set(Path("/proc/self/fd").iterdir())
    one = service("short", "exit 3", how, policy=HASTY)

    with anyio.fail_after(20), pytest.raises(CrashLoop):
        await one.run()

    assert set(Path("/proc/self/fd").iterdir()) <= before


async def test_a_one_shot_is_done_when_it_ends_well_and_runs_again_when_asked(tmp_path: Path) -> None:
    one = service("once", f"(sleep 60 & echo $! >> {tmp_path}/pid); echo x >> {tmp_path}/runs", EndsWell())

    async with kept(one):
        await one.wait_ready()
        status = one.status()
        assert not listed(await pid_in(tmp_path / "pid"))
        await one.restart()
        await one.pause()
        await one.resume()
        assert one.status().state == "done"

    assert (status.state, status.pid, status.last_exit, status.restarts) == ("done", None, 0, 0)
    assert (tmp_path / "runs").read_text() == "x\n" * 3


async def test_a_one_shot_that_fails_is_tried_again_by_its_policy(tmp_path: Path) -> None:
    one = service("once", f"[ -e {tmp_path}/tried ] || {{ touch {tmp_path}/tried; exit 9; }}", EndsWell(), policy=HASTY)

    async with kept(one):
        await one.wait_ready()

        assert (one.status().state, one.status().restarts) == ("done", 1)


async def test_a_one_shot_that_takes_too_long_has_failed() -> None:
    one = service("once", "exec sleep 60", EndsWell(), policy=RestartPolicy(patience=0))
    one.start_timeout = 0.1

    with anyio.fail_after(20), pytest.raises(CrashLoop, match=r"no answer within 0\.1 s"):
        await one.run()


def silent_while(path: Path) -> Probe:
    async def answers() -> None:
        if path.exists():
            await anyio.sleep_forever()

    return answers


async def test_a_service_that_misses_one_question_hangs_and_serves_again_when_it_answers(tmp_path: Path) -> None:
    one = service("slow", "exec sleep 60", alive=Liveness(silent_while(tmp_path / "hang"), 0.02, 0.02, misses=1000))

    async with kept(one):
        await one.wait_ready()
        (tmp_path / "hang").touch()
        await until(lambda: one.status().state == "hanging")
        problem = one.status().problem
        await one.wait_ready()  # it may be busy only: requests are not kept away
        (tmp_path / "hang").unlink()
        await until(lambda: one.status().state == "ready")

        assert problem.startswith("no answer within 0.02 s, ")
        assert (one.status().problem, one.status().restarts) == ("", 0)


async def test_a_service_that_misses_too_many_is_replaced_as_if_it_had_failed(tmp_path: Path) -> None:
    one = service("hung", "exec sleep 60", alive=Liveness(silent_while(tmp_path / "hang"), 0.02, 0.02, misses=2))
    one.policy = HASTY
    (tmp_path / "hang").touch()

    with anyio.fail_after(20), pytest.raises(CrashLoop, match=r"no answer within 0\.02 s, 2 times in a row") as caught:
        await one.run()

    assert (one.status().restarts, caught.value.exit_code) == (1, 1)


async def test_an_error_of_the_question_is_a_miss() -> None:
    async def answers() -> None:
        raise EngineError("it says that it is ill")

    one = service("ill", "exec sleep 60", alive=Liveness(answers, 0.01, 1.0, misses=3), policy=HASTY)

    with anyio.fail_after(20), pytest.raises(CrashLoop, match="3 times in a row"):
        await one.run()
