"""What the health check says, moment by moment."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from supervisor.services.service import Service
from supervisor.services.status import ServiceStatus, State
from supervisor.serving import Serving
from supervisor.start import Start


@dataclass
class FakeServing:
    doing: str = ""
    trouble: str = ""
    downloads: dict[str, str] = field(default_factory=dict)


def moment(start: Start, doing: str = "", *states: State, trouble: str = "") -> tuple[str, str]:
    services = [cast("Service", SimpleNamespace(status=lambda state=state: service(state))) for state in states]
    found = start.status(cast("Serving", FakeServing(doing, trouble)), services)
    return found.phase, found.reason


def service(state: State) -> ServiceStatus:
    nothing: dict[str, Any] = dict.fromkeys(("pid", "uptime", "ready_after", "last_exit", "rss"))
    return ServiceStatus(name="openclaw", state=state, restarts=0, **nothing)


@pytest.mark.parametrize(
    ("doing", "expected"),
    [
        ("pulling qwen3:8b 43 %, 12 MB/s, 3 min left", ("pulling", "pulling qwen3:8b 43 %, 12 MB/s, 3 min left")),
        ("loading tiny", ("starting", "loading tiny")),
        ("", ("starting", "")),
    ],
)
def test_the_start_says_what_takes_so_long(doing: str, expected: tuple[str, str]) -> None:
    assert moment(Start(), doing, "waiting") == expected


def test_the_first_turn_is_a_phase_of_its_own() -> None:
    assert moment(Start(phase="warming"), "", "ready") == ("warming", "reading OpenClaw's prompt")


def test_ready_is_said_when_all_is_and_learning_while_a_lesson_is_under_way() -> None:
    start, learning = Start(), SimpleNamespace(teaching_now=None)
    start.finished(learning)

    assert moment(start, "", "ready") == ("ready", "")
    assert moment(start, "", "starting")[0] == "starting"
    learning.teaching_now = "les-1"
    assert moment(start, "", "ready") == ("learning", "")


def test_a_service_in_trouble_and_a_first_turn_that_failed_degrade_it() -> None:
    start = Start(problem="a first chat turn failed: no answer came")
    start.finished(SimpleNamespace(teaching_now=None))

    assert moment(start, "", "ready") == ("degraded", "a first chat turn failed: no answer came")
    assert moment(start, "", "ready", trouble="no Ollama answers") == ("degraded", "no Ollama answers")
    assert moment(start, "", "backing_off") == ("degraded", "openclaw is backing off")
