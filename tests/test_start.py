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
    pulled: int | None = None
    downloads: dict[str, str] = field(default_factory=dict)


def moment(start: Start, doing: str = "", *states: State, trouble: str = "") -> tuple[str, str]:
    services = [cast("Service", SimpleNamespace(status=lambda state=state: service(state))) for state in states]
    found = start.status(cast("Serving", FakeServing(doing, trouble)), services)
    return found.phase, found.reason


def service(state: State, *, essential: bool = True) -> ServiceStatus:
    nothing: dict[str, Any] = dict.fromkeys(("pid", "uptime", "ready_after", "last_exit", "rss"))
    return ServiceStatus(name="openclaw", state=state, restarts=0, essential=essential, **nothing)


@dataclass
class Watch:
    """What a health check sees over time, on a clock that stands still unless told."""

    serving: FakeServing = field(default_factory=FakeServing)
    state: State = "ready"
    essential: bool = True
    now: float = 0.0
    start: Start = field(init=False)

    def __post_init__(self) -> None:
        self.start = Start(clock=lambda: self.now)

    def ready(self, lesson: str | None = None) -> None:
        self.start.finished(SimpleNamespace(teaching_now=lesson))

    def failing(self, after: float = 0.0) -> str:
        self.now += after
        services = [cast("Service", SimpleNamespace(status=lambda: service(self.state, essential=self.essential)))]
        return self.start.status(cast("Serving", self.serving), services).failing


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
    start = Start(turn_failed="a first chat turn failed: no answer came")
    start.finished(SimpleNamespace(teaching_now=None))

    assert moment(start, "", "ready") == ("degraded", "a first chat turn failed: no answer came")
    assert moment(start, "", "ready", trouble="no Ollama answers") == ("degraded", "no Ollama answers")
    assert moment(start, "", "backing_off") == ("degraded", "openclaw is backing off")


def test_a_pull_fails_nobody_while_bytes_come_whatever_their_pace() -> None:
    watch = Watch(FakeServing("pulling qwen3:8b 0 %", pulled=0), state="ready")
    for _ in range(100):
        watch.serving.pulled = (watch.serving.pulled or 0) + 1

        assert watch.failing(after=170) == ""


def test_a_pull_without_a_byte_for_minutes_is_stuck_whatever_it_says() -> None:
    watch = Watch(FakeServing("pulling qwen3:8b 43 %", pulled=7))
    assert watch.failing() == ""

    watch.serving.doing = "pulling qwen3:8b: waiting to ask again (no such host)"

    assert watch.failing(after=200) == f"{watch.serving.doing}: nothing has moved for 200 s"


def test_a_start_may_take_its_time_but_not_for_ever() -> None:
    watch = Watch(FakeServing("loading qwen3:32b"), state="starting")
    watch.failing()

    assert watch.failing(after=900) == ""
    assert watch.failing(after=200) == "starting loading qwen3:32b: nothing has moved for 1100 s"


def test_a_service_that_comes_back_late_fails_turns_although_it_was_asked_for() -> None:
    watch = Watch(state="starting")
    watch.ready()

    assert watch.failing() == watch.failing(after=9) == ""
    assert watch.failing(after=3) == "waiting for openclaw: nothing has moved for 12 s"
    watch.state = "ready"
    assert watch.failing() == ""
    watch.state = "stopping"
    assert watch.failing(after=9) == ""


@pytest.mark.parametrize("state", ["hanging", "backing_off", "failed", "stopped"])
def test_a_service_in_trouble_fails_turns_unless_they_do_without_it(state: State) -> None:
    watch = Watch(state=state)
    assert watch.failing() == f"openclaw is {state.replace('_', ' ')}"

    watch.essential = False

    assert watch.failing() == ""


def test_an_engine_that_rests_in_a_lesson_fails_nobody() -> None:
    watch = Watch(state="paused")
    watch.ready(lesson="les-1")

    assert watch.failing() == watch.failing(after=600) == ""


def test_a_server_that_is_gone_and_replies_that_break_off_fail_turns() -> None:
    watch = Watch()
    watch.ready()
    assert watch.failing() == ""

    watch.start.turn_failed = "a first chat turn failed"
    assert watch.failing() == "a first chat turn failed"
    watch.start.turns.trouble = "no token within 60 s"
    assert watch.failing() == "no token within 60 s"
    watch.serving.trouble = "no Ollama answers"
    assert watch.failing() == "no Ollama answers"


def test_a_version_that_could_not_be_served_degrades_and_fails_nobody() -> None:
    watch = Watch()
    watch.ready()
    watch.start.problem = "v0002 cannot be served"

    assert watch.failing() == ""
