import json
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest

from supervisor.api.control import Reloaded
from supervisor.cli.client import Refused
from supervisor.errors import NotRunning, UnknownService
from supervisor.services.status import ServiceStatus
from tests.cli.running import clawlama, up
from tests.fakes.control import ENGINE, Pressed

pytestmark = pytest.mark.anyio


async def test_a_restart_says_what_came_of_it(tmp_path: Path) -> None:
    pressed = Pressed()
    async with up(tmp_path, control=pressed):
        text = await clawlama(tmp_path, "restart", "engine")
        whole = await clawlama(tmp_path, "restart", "engine", "--json")

    assert pressed.buttons == ["restart engine"] * 2
    assert text.stdout == "engine is ready after 0.8 s, pid 7\n"
    assert ServiceStatus.model_validate_json(whole.stdout) == ENGINE


async def test_a_misspelt_service_is_answered_with_the_right_names(tmp_path: Path) -> None:
    async with up(tmp_path, control=Pressed(problem=UnknownService("engin", ("engine", "openclaw")))):
        ended = await clawlama(tmp_path, "restart", "engin")

    assert isinstance(ended.exception, Refused)
    assert str(ended.exception) == "engin: there is no service of that name; known: engine, openclaw"


NOTHING = Reloaded(changed=(), restarted=(), needs_restart=())


@dataclass
class Reads(Pressed):
    came: Reloaded = NOTHING

    async def reload(self) -> Reloaded:
        return self.came


@pytest.mark.parametrize(
    ("came", "said"),
    [
        (NOTHING, "nothing has changed\n"),
        (
            Reloaded(changed=("CLAWLAMA_LEAN",), restarted=("openclaw",), needs_restart=()),
            "changed: CLAWLAMA_LEAN\nrestarted: openclaw\n",
        ),
        (
            Reloaded(changed=("CLAWLAMA_MODEL",), restarted=(), needs_restart=("CLAWLAMA_MODEL",)),
            "changed: CLAWLAMA_MODEL\napplied by a whole restart only: CLAWLAMA_MODEL\n",
        ),
    ],
)
async def test_a_reload_says_what_it_changed(tmp_path: Path, came: Reloaded, said: str) -> None:
    async with up(tmp_path, control=Reads(came=came)):
        ended = await clawlama(tmp_path, "reload")
        whole = await clawlama(tmp_path, "reload", "--json")

    assert ended.stdout == said
    assert Reloaded.model_validate(json.loads(whole.stdout)) == came


async def test_a_stop_waits_until_the_folder_is_free(tmp_path: Path) -> None:
    asked, stopped, done = anyio.Event(), [], anyio.Event()

    class Stops(Pressed):
        def stop(self) -> None:
            asked.set()

    async def command() -> None:
        stopped.append(await clawlama(tmp_path, "stop"))
        done.set()

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tg:
            async with up(tmp_path, control=Stops()):
                tg.start_soon(command)
                await asked.wait()
                early = done.is_set()
            await done.wait()

    assert not early
    assert stopped[0].stdout.replace("\n", "") == f"stopped; everything you taught it is kept in {tmp_path}"


@pytest.mark.parametrize("command", [["stop"], ["reload"], ["restart", "engine"]])
async def test_without_a_running_one_there_is_nothing_to_press(tmp_path: Path, command: list[str]) -> None:
    ended = await clawlama(tmp_path, *command)

    assert isinstance(ended.exception, NotRunning)
