import io
import json
import signal
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from rich.console import Console

from supervisor.api.status import StackStatus
from supervisor.cli.status import view
from supervisor.services.status import ServiceStatus
from tests.cli.running import clawlama, up
from tests.fakes.control import ENGINE, Pressed

ROOT = Path(__file__).parents[2]
DOWN = ENGINE.model_copy(
    update=dict.fromkeys(("pid", "uptime", "rss", "cpu", "cpu_percent"))
    | {"name": "openclaw", "state": "backing_off", "problem": "exit code 1 [see above]"}
)


def moment(**other: Any) -> dict[str, Any]:
    services = [ENGINE.model_dump(mode="json"), DOWN.model_dump(mode="json")]
    values = {"phase": "degraded", "reason": "openclaw is backing off", "model": "tiny-chat", "adapter": "me"}
    return values | {"version": None, "services": services, "lessons": {}, "downloads": {}} | other


def seen(moment: dict[str, Any]) -> str:
    terminal = Console(file=io.StringIO(), width=100)
    terminal.print(view(moment), highlight=False)
    assert isinstance(terminal.file, io.StringIO)
    return terminal.file.getvalue()


def test_services_are_shown_with_what_they_use_and_how_they_failed() -> None:
    text = seen(moment())

    engine, openclaw = (next(line for line in text.splitlines() if line.startswith(f" {n}")) for n in ("eng", "open"))
    assert engine.split() == ["engine", *("ready", "7", "1", "min", "0", "s", "5.8", "%", "1", "MiB", "2"), *(
        "SIGKILL", "(out", "of", "memory?)")]  # fmt: skip
    assert "backing off" in openclaw
    assert "openclaw: exit code 1 [see above]" in text


def test_what_is_being_done_is_said() -> None:
    running = {"id": "les-1", "state": "running", "progress": 0.434, "step": "training"}
    text = seen(
        moment(
            phase="learning",
            reason="",
            lessons={"running": running, "queued": 2, "gathering": 3},
            downloads={"gemma3:4b": "pulling gemma3:4b 7 %"},
        )
    )

    assert text.startswith("learning  model tiny-chat, adapter me (nothing learned yet)")
    assert "learning les-1: 43 % training" in text
    assert "lessons waiting: 2" in text
    assert "feedback gathered for the next lesson: 3" in text
    assert "gemma3:4b: pulling gemma3:4b 7 %" in text


@pytest.mark.parametrize(
    ("phase", "reason", "shown"),
    [
        ("ready", "", "ready  model"),
        ("pulling", "pulling qwen3:8b 43 %", "pulling qwen3:8b 43 %  model"),
        ("degraded", "engine is failed", "degraded (engine is failed)  model"),
    ],
)
def test_a_phase_is_said_once(phase: str, reason: str, shown: str) -> None:
    assert seen(moment(phase=phase, reason=reason)).startswith(shown)


@pytest.mark.anyio
async def test_it_is_asked_of_the_running_one(tmp_path: Path) -> None:
    async with up(tmp_path, control=Pressed(), status=lambda: StackStatus("ready", services=(ENGINE,))):
        text = await clawlama(tmp_path, "status")
        whole = await clawlama(tmp_path, "status", "--json")

    assert "ready" in text.stdout
    assert "5.8 %" in text.stdout
    assert json.loads(whole.stdout)["services"][0]["cpu_percent"] == 5.8


@pytest.mark.anyio
async def test_a_view_that_goes_on_ends_quietly_with_ctrl_c(tmp_path: Path) -> None:
    looked = anyio.Event()

    class Seen(Pressed):
        def services(self) -> tuple[ServiceStatus, ...]:
            looked.set()
            return super().services()

    argv = [sys.executable, "-m", "supervisor", "status", "--watch", "--data", str(tmp_path)]
    async with up(tmp_path, control=Seen()), await anyio.open_process(argv, cwd=ROOT) as process:
        await looked.wait()
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        said = b"".join([part async for part in process.stderr])

        assert (await process.wait(), said) == (0, b"")
