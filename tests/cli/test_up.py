"""What a person sees of ``clawlama up``; that it starts and stops is tested in e2e."""

import io
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from supervisor.api.control import Reloaded
from supervisor.assistant import Up
from supervisor.boot import Booted
from supervisor.cli.up import banner, link
from supervisor.host.detect import detect
from supervisor.plan.decide import decide
from supervisor.plan.models import model_facts
from supervisor.running import Running
from supervisor.settings.settings import Settings

TOKEN = "t" * 43


def booted(settings: Settings, *, new_token: bool) -> Booted:
    facts = detect(settings.data)
    running = Running(
        pid=1,
        version="1.2.3",
        model="tiny-chat",
        adapter=settings.adapter,
        api_url="http://127.0.0.1:8080",
        api_token="a" * 43,
        openclaw_url="http://127.0.0.1:18789",
        openclaw_token=TOKEN,
    )
    return Booted(
        facts,
        Up(decide(facts, settings, model_facts("tiny-chat")), 312, 4.2, nothing_to_reload),
        running,
        new_token,
        12.3,
    )


async def nothing_to_reload() -> Reloaded:
    return Reloaded(changed=(), restarted=(), needs_restart=())


def shown(settings: Settings, booted: Booted) -> list[str]:
    """The banner on a terminal of 80 columns."""
    terminal = Console(file=io.StringIO(), width=80)
    terminal.print(banner(settings, booted))
    assert isinstance(terminal.file, io.StringIO)
    return terminal.file.getvalue().splitlines()


def test_the_banner_fits_a_small_terminal_and_shows_odd_paths_as_they_are(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path / "[bold]x")

    lines = shown(settings, booted(settings, new_token=True))

    assert max(map(len, lines)) <= 80
    assert "ClawLama 1.2.3 is ready after 12 s" in lines[0]
    assert "[bold]x" in "".join(line.strip("│ ") for line in lines)


def test_the_banner_names_the_model_not_its_path(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)
    up = booted(settings, new_token=True)
    model = replace(up.up.plan.model, name="Mine-[bold]Q4")
    lines = shown(settings, replace(up, up=replace(up.up, plan=replace(up.up.plan, model=model))))

    assert any("Mine-[bold]Q4 on the embedded llama.cpp" in line for line in lines)


def test_the_token_is_shown_once_and_its_place_always(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)
    first, later = (booted(settings, new_token=new) for new in (True, False))

    assert link(first) == f"http://127.0.0.1:18789/#token={TOKEN}"
    assert link(later) == "http://127.0.0.1:18789"
    for one in (first, later):
        assert "secrets/openclaw_token" in "".join(shown(settings, one))


def test_who_opens_the_door_to_the_network_is_told_how_others_get_in(tmp_path: Path) -> None:
    alone, open_to_all = Settings(data=tmp_path), Settings(data=tmp_path, openclaw_bind="lan")

    assert "another machine" not in "".join(shown(alone, booted(alone, new_token=True)))
    assert "another machine" in "".join(shown(open_to_all, booted(open_to_all, new_token=True)))
