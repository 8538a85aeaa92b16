"""``clawlama up`` from its first line to the last: what a newcomer sees, does and leaves behind."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import anyio
import httpx
import pytest

from supervisor.gateway.client import ask
from supervisor.gateway.command import OpenClaw, Tokens, cli_command
from supervisor.gateway.find import find_runtime
from tests.e2e.checks import check_gone, replies_to
from tests.e2e.product import NODE, PATIENCE, Life, Place, clear_away, command_line, started
from tests.e2e.terminal import COLUMNS, on_terminal

pytestmark = [pytest.mark.anyio, pytest.mark.e2e, pytest.mark.openclaw]


@pytest.fixture(scope="module")
async def life(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Life]:
    place = Place(tmp_path_factory.mktemp("up"))
    try:
        async with started(place) as one:
            await one.ready()
            yield one
            assert await one.end(signal.SIGTERM) == 0
        check_gone(place)
    finally:
        clear_away(place)


async def test_the_link_in_the_banner_opens_the_control_ui(life: Life) -> None:
    token = life.place.secret("openclaw_token")
    await printed(life, f"{life.place.openclaw}/#token={token}\n")

    async with httpx.AsyncClient(trust_env=False, timeout=60) as browser:
        page = await browser.get(f"{life.place.openclaw}/")

    assert page.status_code == httpx.codes.OK
    assert "<title>OpenClaw Control</title>" in page.text


async def test_the_tokens_are_private_and_what_they_guard_is_closed_without_them(life: Life) -> None:
    async with httpx.AsyncClient(trust_env=False, timeout=60) as stranger:
        ours = await stranger.get(f"{life.place.api}/v1/models")
        theirs = await stranger.post(f"{life.place.openclaw}/v1/chat/completions", json={"messages": []})

    assert (ours.status_code, theirs.status_code) == (401, 401)
    for name in ("api_token", "openclaw_token"):
        assert (life.place.data / "secrets" / name).stat().st_mode & 0o777 == 0o600


async def test_a_chat_through_openclaw_is_answered_and_recorded(life: Life) -> None:
    pieces = ask(life.place.openclaw, life.place.secret("openclaw_token"), "What is tea?", session="one")
    with anyio.fail_after(PATIENCE):
        reply = "".join([piece async for piece in pieces])

    assert reply.strip()
    assert reply.strip() in replies_to(life.place, "What is tea?")


async def test_feedback_in_the_control_ui_is_kept_for_a_lesson(life: Life) -> None:
    await chat_send(life.place, "What is rain?")
    await until(lambda: bool(replies_to(life.place, "What is rain?")))

    await chat_send(life.place, "/feedback no emojis, please")

    async with life.place.client() as client:
        with anyio.fail_after(PATIENCE):
            while not (lessons := (await client.get("/v1/lessons")).json()["lessons"]):  # noqa: ASYNC110
                await anyio.sleep(0.1)
        kept = (await client.get(f"/v1/lessons/{lessons[0]['id']}")).json()["feedback"]
    assert [(item["text"], item["prompt"]) for item in kept] == [("no emojis, please", "What is rain?")]


async def test_a_second_start_on_the_same_folder_says_who_holds_it_and_touches_nothing(life: Life) -> None:
    before = [whole(life.place.data / "run" / name) for name in ("lock", "supervisor.json", "engine.json")]

    second = await clawlama(life.place, "up")

    assert second.returncode == 1
    assert f"in use by a running clawlama (pid {life.process.pid})" in second.stderr
    assert [whole(life.place.data / "run" / name) for name in ("lock", "supervisor.json", "engine.json")] == before
    assert (await life.health())["phase"] in {"ready", "learning"}


async def test_status_and_doctor_find_nothing_wrong_with_it(life: Life) -> None:
    status, doctor = await clawlama(life.place, "status", "--json"), await clawlama(life.place, "doctor", "--json")

    assert [service["name"] for service in json.loads(status.stdout)["services"]] == ["engine", "openclaw"]
    assert all(finding["ok"] for finding in json.loads(doctor.stdout)["findings"])


async def test_a_terminal_shows_the_way_and_ctrl_c_ends_it_for_good(tmp_path: Path) -> None:
    place = Place(tmp_path)
    async with on_terminal(place) as screen:
        await screen.shows("Ctrl-C")
        await screen.shows("#token=")
        assert await screen.interrupt() == 0

    link = f"  {place.openclaw}/#token={place.secret('openclaw_token')}"
    assert link in screen.lines
    assert screen.lines[-2] == f"stopped; everything you taught it is kept in {place.data}"
    own = [line for line in screen.lines[:-2] if line != link and "│" not in line[1:14]]
    assert [line for line in own if len(line) > COLUMNS] == []
    check_gone(place)


async def test_a_closed_window_is_a_stop(tmp_path: Path) -> None:
    place = Place(tmp_path)
    async with on_terminal(place) as screen:
        await screen.shows("API on")
        assert await screen.close() == 0

    check_gone(place)


async def test_a_second_signal_ends_it_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    place = Place(tmp_path)
    try:
        async with started(place) as life:
            await life.comes_to(lambda life: bool(gateways(life.place)))
            life.process.send_signal(signal.SIGTERM)
            assert await life.end(signal.SIGTERM) == 0, life.last_words()
        check_gone(place)
    finally:
        clear_away(place)


@pytest.mark.parametrize("seconds", [0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0])
async def test_a_stop_after_so_many_seconds_is_no_failure_and_leaves_nothing(tmp_path: Path, seconds: float) -> None:
    place = Place(tmp_path)
    try:
        async with started(place) as life:
            await anyio.sleep(seconds)
            nothing_yet = not place.data.exists()
            code = await life.end(signal.SIGTERM)
            assert code == 0 or (nothing_yet and code == -signal.SIGTERM), life.last_words()
        assert not place.owned()
    finally:
        clear_away(place)


async def test_a_config_that_openclaw_accepted_is_not_checked_again(tmp_path: Path) -> None:
    place = Place(tmp_path)
    stamp = place.data / "openclaw" / "validated"
    try:
        await stopped_when(place, lambda _life: stamp.exists())
        accepted = whole(stamp)

        await stopped_when(place, lambda life: bool(gateways(life.place)))

        assert whole(stamp) == accepted
    finally:
        clear_away(place)


async def test_a_stop_at_any_moment_of_the_start_leaves_nothing(tmp_path: Path) -> None:
    place = Place(tmp_path)
    moments: list[Callable[[Life], bool]] = [
        lambda life: (life.place.data / "run" / "lock").exists(),
        lambda life: "OpenClaw's configuration" in life.said,  # and is now asked whether it is right
        lambda life: "API on" in life.said,
        lambda life: "engine ready" in life.said,
        lambda life: bool(gateways(life.place)),
    ]
    try:
        for moment in moments:
            await stopped_when(place, moment)
            check_gone(place)
    finally:
        clear_away(place)


async def stopped_when(place: Place, due: Callable[[Life], bool]) -> None:
    async with started(place) as life:
        await life.comes_to(due)
        assert await life.end(signal.SIGTERM) == 0, life.last_words()


def gateways(place: Place) -> list[int]:
    return [proc.pid for proc in place.owned() if "openclaw" in command_line(proc.pid)]


async def until(true: Callable[[], bool]) -> None:
    with anyio.fail_after(PATIENCE):
        while not true():  # noqa: ASYNC110 - nothing announces what another process does
            await anyio.sleep(0.02)


async def printed(life: Life, words: str) -> None:
    await life.comes_to(lambda life: words in life.said)


def whole(path: Path) -> tuple[int, str]:
    """What tells that a file was not even written anew."""
    return path.stat().st_mtime_ns, path.read_text()


async def clawlama(place: Place, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "supervisor", *arguments]
    run = partial(subprocess.run, command, env=place.environment(), capture_output=True, text=True, timeout=PATIENCE)
    return await anyio.to_thread.run_sync(run)


async def chat_send(place: Place, text: str) -> None:
    """A message the way the control UI sends it."""
    tokens = Tokens(place.secret("openclaw_token"), place.secret("api_token"))
    runtime = find_runtime(NODE, os.environ["PATH"])
    openclaw = OpenClaw(runtime, place.data / "openclaw", place.data / "workspace", tokens, place.environment())
    params = {"sessionKey": "agent:main:main", "message": text, "idempotencyKey": text}
    command = cli_command(openclaw, "gateway", "call", "chat.send", "--params", json.dumps(params))
    with anyio.fail_after(PATIENCE):
        await anyio.run_process(command.argv, env=command.env, cwd=command.cwd)
