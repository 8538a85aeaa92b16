"""Looking at a running clawlama and pressing its buttons, by command and over the API, in one life of it."""

import json
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from supervisor.gateway.client import ask
from supervisor.services.logs import Logs
from supervisor.settings.datadir import DataDir
from tests.e2e.checks import check_gone
from tests.e2e.product import CHECKOUT, PATIENCE, STOP_WITHIN, Life, Place, clear_away, started

pytestmark = [pytest.mark.anyio, pytest.mark.e2e, pytest.mark.openclaw]


async def clawlama(place: Place, *arguments: str) -> str:
    """What a command prints; it must go well."""
    argv = [sys.executable, "-m", "supervisor", *arguments]
    with anyio.fail_after(PATIENCE):
        ended = await anyio.run_process(argv, cwd=CHECKOUT, env=place.environment(), check=False)
    assert ended.returncode == 0, ended.stderr.decode()
    return ended.stdout.decode()


async def services(life: Life) -> dict[str, dict[str, Any]]:
    found = json.loads(await clawlama(life.place, "status", "--json"))["services"]
    return {one["name"]: one for one in found}


async def test_a_running_one_is_looked_at_and_controlled(tmp_path: Path) -> None:
    place = Place(tmp_path, {"CLAWLAMA_LOG_FORMAT": "json"})
    try:
        async with started(place) as life:
            await life.ready()
            reply = await chat(life)
            await services_restart_one_by_one(life)
            await metrics_tell_of_the_reply(life)
            await a_changed_setting_is_followed(life)
            await clawlama(place, "stop")
            with anyio.fail_after(STOP_WITHIN):
                assert await life.process.wait() == 0
        check_gone(place)
        logs_hold_what_happened_and_no_reply(life, reply)
    finally:
        clear_away(place)


async def chat(life: Life) -> str:
    pieces = ask(life.place.openclaw, life.place.secret("openclaw_token"), "Tell me about tea", session="one")
    with anyio.fail_after(PATIENCE):
        return "".join([piece async for piece in pieces])


async def services_restart_one_by_one(life: Life) -> None:
    before = await services(life)
    assert [one["state"] for one in before.values()] == ["ready", "ready"]
    assert all(one["cpu"] > 0 and one["cpu_percent"] is not None for one in before.values())

    assert "engine is ready after" in await clawlama(life.place, "restart", "engine")

    after = await services(life)
    assert after["engine"]["pid"] != before["engine"]["pid"]
    assert after["openclaw"]["pid"] == before["openclaw"]["pid"]
    assert await chat(life)


async def metrics_tell_of_the_reply(life: Life) -> None:
    async with life.place.client() as client:
        text = (await client.get("/metrics")).raise_for_status().text

    assert 'clawlama_service_up{service="openclaw"} 1.0' in text
    assert 'clawlama_phase{phase="ready"} 1.0' in text
    counted = [line for line in text.splitlines() if line.startswith("clawlama_completions_total{")]
    assert counted
    assert all('outcome="stop"' in line for line in counted)


async def a_changed_setting_is_followed(life: Life) -> None:
    assert await clawlama(life.place, "reload") == "nothing has changed\n"
    (life.place.data / "clawlama.toml").write_text('log_level = "debug"\nkeep_versions = 5\n')

    said = await clawlama(life.place, "reload")

    assert "changed: CLAWLAMA_KEEP_VERSIONS, CLAWLAMA_LOG_LEVEL" in said
    assert "applied by a whole restart only: CLAWLAMA_KEEP_VERSIONS" in said


def logs_hold_what_happened_and_no_reply(life: Life, reply: str) -> None:
    shown = [json.loads(line) for line in life.said.splitlines()]
    kept = Logs(DataDir(life.place.data).logs).last(10_000)

    assert {frozenset(("time", "service", "line")) <= frozenset(line) for line in shown} == {True}
    assert [line["line"] for line in shown if line["service"] == "clawlama"][-1] == "stopped"
    assert {"clawlama", "openclaw"} <= {line.service for line in kept}
    everything = life.said + "".join(path.read_text() for path in DataDir(life.place.data).logs.iterdir())
    for secret in (reply, reply[:30], life.place.secret("openclaw_token"), life.place.secret("api_token")):
        assert secret not in everything
