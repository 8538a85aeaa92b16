import math
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from supervisor.errors import CrashLoop, EngineError, ServiceError, UnknownService
from supervisor.services.readiness import EndsWell, Readiness
from supervisor.services.restart import RestartPolicy
from supervisor.services.service import Service
from supervisor.services.tree import stop_deadline, supervised
from tests.services.children import alive, appears, grown, listed, never, pid_in, service, until

pytestmark = pytest.mark.anyio

NAMES = ("engine", "api", "gateway")
HASTY = RestartPolicy(patience=1, first_pause=0.01)


def noting(name: str, folder: Path, *needs: str, answers: Readiness | None = None) -> Service:
    """Notes in ``folder/events`` when it starts and when it is told to stop."""
    script = (
        f"trap 'echo -{name} >> {folder}/events; exit 0' TERM; echo +{name} >> {folder}/events;"
        f"echo $$ > {folder}/{name}.pid; touch {folder}/{name}.up; while :; do sleep 0.02; done"
    )
    return service(name, script, answers or appears(folder / f"{name}.up"), needs=needs)


def chain(folder: Path) -> list[Service]:
    """Each needs the one before."""
    return [noting(name, folder, *NAMES[max(place - 1, 0) : place]) for place, name in enumerate(NAMES)]


def stubborn(name: str, folder: Path, *needs: str) -> Service:
    script = f"trap '' TERM; echo $$ > {folder}/{name}.pid; touch {folder}/{name}.up; sleep 60"
    return service(name, script, appears(folder / f"{name}.up"), needs=needs)


def falling(name: str, code: int = 3, *needs: str, essential: bool = True) -> Service:
    return service(name, f"exit {code}", never, policy=HASTY, needs=needs, essential=essential)


def events(folder: Path) -> list[str]:
    return (folder / "events").read_text().split()


async def fall(pidfile: Path) -> None:
    """Kill it and wait to be cancelled for that."""
    os.kill(await pid_in(pidfile), signal.SIGKILL)
    await anyio.sleep_forever()


@asynccontextmanager
async def using() -> AsyncIterator[None]:
    async with anyio.create_task_group():
        try:
            yield
        finally:
            raise EngineError("the connection broke")


async def test_services_start_after_what_they_need_and_stop_in_reverse(tmp_path: Path) -> None:
    async with grown(*chain(tmp_path)) as tree:
        states = [status.state for status in tree.status()]

    assert states == ["ready"] * 3
    assert events(tmp_path) == ["+engine", "+api", "+gateway", "-gateway", "-api", "-engine"]
    assert [status.state for status in tree.status()] == ["stopped"] * 3
    assert tuple(tree.services) == NAMES


async def test_nothing_starts_before_the_one_it_needs_is_ready(tmp_path: Path) -> None:
    first, second = noting("engine", tmp_path, answers=never), noting("api", tmp_path, "engine")

    with anyio.fail_after(30):
        async with supervised() as tree, anyio.create_task_group() as tg:
            tg.start_soon(tree.start, first, second)
            await pid_in(tmp_path / "engine.pid")
            assert [status.state for status in tree.status()] == ["starting", "waiting"]
            tg.cancel_scope.cancel()

    assert events(tmp_path) == ["+engine", "-engine"]


async def test_services_that_do_not_need_each_other_start_at_the_same_time(tmp_path: Path) -> None:
    def after(other: str, name: str) -> Service:
        script = (
            f"touch {tmp_path}/{name}; until [ -e {tmp_path}/{other} ]; do sleep 0.02; done; touch {tmp_path}/{name}.up"
        )
        return service(name, f"{script}; exec sleep 60", appears(tmp_path / f"{name}.up"))

    async with grown(after("b", "a"), after("a", "b")) as tree:
        assert [status.state for status in tree.status()] == ["ready", "ready"]


async def test_a_need_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="api: needs engine; start that before"):
        async with grown(noting("api", tmp_path, "engine")):
            pytest.fail("it cannot have been started")

    assert not (tmp_path / "events").exists()


async def test_a_name_stands_for_one_service(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="api: is in the tree already"):
        async with grown(noting("api", tmp_path)) as tree:
            await tree.start(noting("api", tmp_path))

    assert events(tmp_path) == ["+api", "-api"]


async def test_a_need_that_is_never_met_ends_the_tree_by_name(tmp_path: Path) -> None:
    first, deaf, last = chain(tmp_path)
    deaf.answers, deaf.start_timeout, deaf.policy = never, 0.3, HASTY

    with pytest.raises(CrashLoop, match="api: failed 2 times in a row, last: no answer") as caught:
        async with grown(first, deaf, last):
            pytest.fail("it cannot have become ready")

    assert caught.value.exit_code == 1  # we ended it: what it ended with tells nothing
    assert "+gateway" not in events(tmp_path)
    assert events(tmp_path)[-1] == "-engine"


async def test_one_crash_loop_stops_the_others_in_reverse_and_names_its_exit_code(tmp_path: Path) -> None:
    engine, api = chain(tmp_path)[:2]

    with anyio.fail_after(30), pytest.raises(CrashLoop) as caught:
        async with supervised() as tree:
            await tree.start(engine, api, falling("falling", 3, "api"))

    assert (caught.value.service, caught.value.exit_code) == ("falling", 3)
    assert events(tmp_path) == ["+engine", "+api", "-api", "-engine"]
    assert [status.state for status in tree.status()] == ["stopped", "stopped", "failed"]
    assert tree.status()[-1].problem == "failed 2 times in a row, last: exit code 3"


async def test_a_service_that_falls_after_the_start_cancels_the_block_with_128_and_its_signal(tmp_path: Path) -> None:
    engine, api = chain(tmp_path)[:2]
    api.policy = RestartPolicy(patience=0)

    with pytest.raises(CrashLoop, match=r"api: .*SIGKILL") as caught:
        async with grown(engine, api):
            await fall(tmp_path / "api.pid")

    assert caught.value.exit_code == 128 + signal.SIGKILL
    assert events(tmp_path)[-1] == "-engine"


async def test_the_one_that_was_given_up_is_to_blame_though_the_block_fails_because_of_it(tmp_path: Path) -> None:
    api = noting("api", tmp_path)
    api.policy = RestartPolicy(patience=0)

    with pytest.raises(CrashLoop, match=r"api: .*SIGKILL"):
        async with grown(api), using():
            await fall(tmp_path / "api.pid")


async def test_an_error_in_the_block_arrives_after_the_stop(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="mine"):
        async with grown(noting("api", tmp_path)):
            raise EngineError("mine")

    assert events(tmp_path) == ["+api", "-api"]


async def test_an_optional_service_that_is_given_up_leaves_the_others_alone(tmp_path: Path) -> None:
    telegram = falling("telegram", essential=False)

    async with grown(noting("api", tmp_path), telegram) as tree:
        status = tree.status()

    assert [one.state for one in status] == ["ready", "failed"]
    assert (status[1].essential, status[1].problem) == (False, "failed 2 times in a row, last: exit code 3")


async def test_an_optional_service_that_was_given_up_can_be_started_by_hand(tmp_path: Path) -> None:
    script = f"[ -e {tmp_path}/network ] && touch {tmp_path}/up && exec sleep 60; exit 1"
    telegram = service("telegram", script, appears(tmp_path / "up"), essential=False, policy=HASTY)

    async with grown(telegram) as tree:
        with pytest.raises(CrashLoop):
            await tree.restart("telegram")
        (tmp_path / "network").touch()
        async with anyio.create_task_group() as tg:
            for _ in range(3):
                tg.start_soon(tree.restart, "telegram")
        status = telegram.status()

    assert (status.state, status.problem) == ("ready", "")


async def test_what_was_asked_of_one_that_was_given_up_does_not_bind_the_next(tmp_path: Path) -> None:
    script = f"[ -e {tmp_path}/network ] && touch {tmp_path}/up && exec sleep 60; exit 1"
    telegram = service("telegram", script, appears(tmp_path / "up"), essential=False, policy=HASTY)

    async with grown(telegram) as tree:
        with pytest.raises(CrashLoop):
            await telegram.pause()
        (tmp_path / "network").touch()
        await tree.restart("telegram")

        assert telegram.status().state == "ready"


async def test_what_needs_an_optional_service_falls_with_it_or_is_marked(tmp_path: Path) -> None:
    voice = noting("voice", tmp_path)
    voice.essential, voice.policy = False, RestartPolicy(patience=0)
    phone, later = noting("phone", tmp_path, "voice"), noting("later", tmp_path, "phone")
    phone.essential = later.essential = False

    async with grown(voice, phone, later) as tree:
        os.kill(await pid_in(tmp_path / "voice.pid"), signal.SIGKILL)
        await until(lambda: [one.state for one in tree.status()] == ["failed"] * 3)
        problem = later.status().problem
        with pytest.raises(ServiceError, match="phone: needs voice, which was given up; restart that first"):
            await tree.restart("phone")
        await tree.restart("voice", dependants=True)
        states = [one.state for one in tree.status()]

    assert problem.startswith("needs phone, which was given up; restart that first")
    assert states == ["ready"] * 3


async def test_an_essential_service_goes_with_the_optional_one_it_needs(tmp_path: Path) -> None:
    with anyio.fail_after(30), pytest.raises(ServiceError, match="api: needs voice, which was given up") as caught:
        async with supervised() as tree:
            await tree.start(falling("voice", essential=False), noting("api", tmp_path, "voice"))

    assert caught.value.exit_code == 3
    assert not (tmp_path / "events").exists()


async def test_a_restart_takes_what_needs_it_along_when_asked(tmp_path: Path) -> None:
    async with grown(*chain(tmp_path)) as tree:
        await tree.restart("api")
        await tree.restart("api", dependants=True)
        restarts = [status.restarts for status in tree.status()]
        told = events(tmp_path)[3:]

    assert restarts == [0, 0, 0]
    assert told == ["-api", "+api", "-gateway", "-api", "+api", "+gateway"]


async def test_restarts_that_take_others_along_may_meet(tmp_path: Path) -> None:
    async with grown(*chain(tmp_path)) as tree:
        async with anyio.create_task_group() as tg:
            tg.start_soon(lambda: tree.restart("engine", dependants=True))
            tg.start_soon(lambda: tree.restart("api", dependants=True))
            tg.start_soon(tree.restart, "gateway")
        states = [status.state for status in tree.status()]

    assert states == ["ready"] * 3
    assert events(tmp_path)[-3:] == ["-gateway", "-api", "-engine"]


async def test_a_cancelled_restart_leaves_nobody_paused(tmp_path: Path) -> None:
    async with grown(*chain(tmp_path)) as tree:
        async with anyio.create_task_group() as tg:
            tg.start_soon(lambda: tree.restart("engine", dependants=True))
            await until(lambda: tree.services["gateway"].status().state == "paused")
            tg.cancel_scope.cancel()
        await tree.services["gateway"].wait_ready()
        await tree.services["api"].wait_ready()


async def test_what_somebody_else_has_paused_stays_so_in_a_restart(tmp_path: Path) -> None:
    async with grown(*chain(tmp_path)) as tree:
        await tree.services["gateway"].pause()
        await tree.restart("engine", dependants=True)

        assert [status.state for status in tree.status()] == ["ready", "ready", "paused"]


async def test_a_restart_of_nobody_names_those_there_are(tmp_path: Path) -> None:
    async with grown(noting("api", tmp_path)) as tree:
        with pytest.raises(UnknownService, match="telegram: there is no service of that name; known: api"):
            await tree.restart("telegram")


async def test_a_one_shot_comes_first_and_can_be_run_again(tmp_path: Path) -> None:
    once = service("migrate", f"echo +migrate >> {tmp_path}/events", EndsWell())

    async with grown(once, noting("api", tmp_path, "migrate")) as tree:
        state = once.status().state
        await tree.restart("migrate")

    assert state == "done"
    assert events(tmp_path) == ["+migrate", "+api", "+migrate", "-api"]


async def test_the_global_deadline_holds_with_three_stubborn_services(tmp_path: Path) -> None:
    three = [stubborn("engine", tmp_path), stubborn("api", tmp_path, "engine"), stubborn("gateway", tmp_path, "api")]

    async with grown(*three, stop_within=1.2):
        pids = [await pid_in(tmp_path / f"{name}.pid") for name in NAMES]
        began = anyio.current_time()
    took = anyio.current_time() - began

    assert not any(listed(pid) for pid in pids)
    assert took < 5  # each alone would have been given as much


async def test_a_deadline_shortens_an_end_that_has_already_begun(tmp_path: Path) -> None:
    one = stubborn("engine", tmp_path)
    one.grace = 1000

    with anyio.fail_after(30):
        async with supervised(stop_within=0.3) as tree, anyio.create_task_group() as tg:
            await tree.start(one)
            tg.start_soon(one.restart)
            await until(lambda: one.status().state == "stopping")
            tg.cancel_scope.cancel()

    assert not listed(await pid_in(tmp_path / "engine.pid"))


@pytest.mark.parametrize(
    ("ending_since", "within", "deadline"),
    [(math.inf, 8.0, 108.0), (97.0, 8.0, 105.0), (90.0, 8.0, 101.0), (90.0, 0.5, 100.5)],
)
def test_what_the_block_took_to_end_is_taken_from_the_deadline(
    ending_since: float, within: float, deadline: float
) -> None:
    assert stop_deadline(100.0, ending_since, within) == deadline


async def test_the_deadline_counts_from_the_cancellation() -> None:
    with anyio.fail_after(20), anyio.CancelScope() as outer:
        async with supervised() as tree:
            outer.cancel()
            with anyio.CancelScope(shield=True):
                await until(lambda: tree.ending_since < math.inf)


async def test_two_quick_cancellations_still_stop_in_order(tmp_path: Path) -> None:
    async def stay() -> None:
        async with grown(*chain(tmp_path)):
            (tmp_path / "grown").touch()
            await anyio.sleep_forever()

    with anyio.fail_after(30), anyio.CancelScope() as outer:
        async with anyio.create_task_group() as tg:
            tg.start_soon(stay)
            await until((tmp_path / "grown").exists)
            tg.cancel_scope.cancel()
            await anyio.lowlevel.cancel_shielded_checkpoint()
            outer.cancel()

    assert events(tmp_path)[3:] == ["-gateway", "-api", "-engine"]


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5, 8, 13, 40, 100, 300, 1000, 3000])
async def test_cancelling_at_any_moment_of_the_start_leaves_nothing(tmp_path: Path, steps: int) -> None:
    services = chain(tmp_path)

    with anyio.fail_after(30):
        async with supervised() as tree, anyio.create_task_group() as tg:
            tg.start_soon(tree.start, *services)
            for _ in range(steps):
                await anyio.lowlevel.checkpoint()
            seen = [status.pid for status in tree.status() if status.pid is not None]
            tg.cancel_scope.cancel()

    started = {int(path.read_text() or 0) for path in tmp_path.glob("*.pid")} | set(seen)
    assert not any(listed(pid) for pid in started)
    assert not any(alive(status.pid) for status in tree.status() if status.pid is not None)


async def test_nothing_can_be_started_while_all_is_being_stopped(tmp_path: Path) -> None:
    async with grown(noting("engine", tmp_path)) as tree:
        pass

    with pytest.raises(ServiceError, match="api: is not started: everything is being stopped"):
        await tree.start(noting("api", tmp_path))
    with pytest.raises(ServiceError, match="engine: is stopped"):
        await tree.restart("engine")


async def test_a_tree_without_services_stops_at_once() -> None:
    async with grown() as tree:
        assert tree.status() == ()
