from collections.abc import Callable
from typing import Any

import anyio
import pytest

from supervisor.api.control import Reloaded
from supervisor.control import Controls, Shares
from supervisor.errors import UnknownService
from supervisor.services.status import ServiceStatus

NOTHING = Reloaded(changed=(), restarted=(), needs_restart=())


def service(name: str = "engine", **other: Any) -> ServiceStatus:
    values = {"state": "ready", "pid": 7, "restarts": 0, "uptime": 100.0, "ready_after": 1.0, "last_exit": None}
    return ServiceStatus.model_validate(values | {"name": name, "rss": 2**20, "cpu": 5.0} | other)


def shares(*looks: tuple[float, float]) -> list[float | None]:
    """What is said at each look of (seconds, CPU seconds so far)."""
    kept = Shares()
    return [kept.added((service(cpu=cpu),), now)[0].cpu_percent for now, cpu in looks]


def controls(*services: ServiceStatus, restart: Callable[[str], Any] | None = None) -> Controls:
    async def again(name: str) -> None:
        if restart is not None:
            restart(name)

    async def nothing() -> Reloaded:
        return NOTHING

    return Controls(lambda: services, again, lambda: None, nothing)


@pytest.mark.parametrize(
    ("looks", "said"),
    [
        ([(0, 5.0)], [5.0]),  # five seconds in the hundred that it is up
        ([(0, 5.0), (10, 7.0)], [5.0, 20.0]),
        ([(0, 5.0), (0.3, 5.3), (10, 7.0)], [5.0, 5.0, 20.0]),  # a third of a second is too short to tell
        ([(0, 5.0), (1000, 10.0)], [5.0, 10.0]),
        ([(0, 5.0), (10, 4.0)], [5.0, 0.0]),  # a child took its time along
    ],
)
def test_a_cpu_share_is_that_of_the_time_since_the_last_look(
    looks: list[tuple[float, float]], said: list[float]
) -> None:
    assert shares(*looks) == said


def test_another_process_of_the_same_service_starts_anew() -> None:
    kept = Shares()
    kept.added((service(pid=7, cpu=50.0),), 0)

    (again,) = kept.added((service(pid=8, cpu=0.5, uptime=5.0),), 10)

    assert again.cpu_percent == 10.0


def test_what_does_not_run_has_no_share() -> None:
    (down,) = Shares().added((service(pid=None, cpu=None, uptime=None),), 0)

    assert down.cpu_percent is None


@pytest.mark.anyio
async def test_a_restart_answers_with_how_the_service_fares() -> None:
    asked: list[str] = []

    status = await controls(service("engine"), service("openclaw"), restart=asked.append).restart("openclaw")

    assert (status.name, asked) == ("openclaw", ["openclaw"])


@pytest.mark.anyio
async def test_an_unknown_service_is_refused_with_the_known_ones() -> None:
    with (
        anyio.fail_after(5),
        pytest.raises(UnknownService, match="opnclaw: there is no service of that name; known: a, b"),
    ):
        await controls(service("a"), service("b")).restart("opnclaw")
