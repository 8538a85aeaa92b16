import anyio
import pytest
from anyio.lowlevel import checkpoint

from supervisor.engines.door import Door

pytestmark = pytest.mark.anyio


async def pass_through(door: Door, log: list[str], name: str, leave: anyio.Event | None = None) -> None:
    async with door.passing():
        log.append(f"{name} in")
        if leave is not None:
            await leave.wait()
    log.append(f"{name} out")


async def settle() -> None:
    """Let every task that can go on do so."""
    for _ in range(20):
        await checkpoint()


async def test_an_empty_door_closes_at_once() -> None:
    door = Door()

    with anyio.fail_after(5):
        assert await door.close(drain=60)
    assert not door.is_open


async def test_whoever_closes_waits_for_those_inside() -> None:
    door, log, leave = Door(), list[str](), anyio.Event()

    async def close() -> None:
        assert await door.close(drain=60)
        log.append("closed")

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tg:
            for name in ("first", "second"):
                tg.start_soon(pass_through, door, log, name, leave)
            await settle()
            tg.start_soon(close)
            await settle()
            assert log == ["first in", "second in"]
            leave.set()

    assert log[-1] == "closed"


async def test_a_closed_door_lets_nobody_in_until_it_opens() -> None:
    door, log = Door(), list[str]()

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tg:
            await door.close(drain=1)
            tg.start_soon(pass_through, door, log, "late")
            await settle()
            assert log == []
            door.open()

    assert log == ["late in", "late out"]


async def test_those_who_wait_stay_out_when_it_closes_again_at_once() -> None:
    door, log = Door(), list[str]()

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tg:
            await door.close(drain=1)
            tg.start_soon(pass_through, door, log, "late")
            await settle()
            door.open()
            assert await door.close(drain=1)
            await settle()
            assert log == []
            door.open()

    assert log == ["late in", "late out"]


async def test_patience_with_those_inside_has_an_end() -> None:
    door, log, leave = Door(), list[str](), anyio.Event()

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tg:
            tg.start_soon(pass_through, door, log, "slow", leave)
            await settle()
            assert not await door.close(drain=0.01)
            leave.set()
        assert await door.close(drain=60)


async def test_a_request_that_fails_or_is_cancelled_is_out() -> None:
    door = Door()

    with pytest.raises(ZeroDivisionError):
        async with door.passing():
            raise ZeroDivisionError
    with anyio.CancelScope() as scope:
        async with door.passing():
            scope.cancel()
            await anyio.sleep_forever()

    with anyio.fail_after(5):
        assert await door.close(drain=60)


async def test_who_gives_up_waiting_outside_leaves_no_trace() -> None:
    door = Door()
    await door.close(drain=1)

    with anyio.move_on_after(0.01):
        await pass_through(door, [], "impatient")
    door.open()

    with anyio.fail_after(5):
        assert await door.close(drain=60)
