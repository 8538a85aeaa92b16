import json
from pathlib import Path

import anyio
import pytest

from supervisor.errors import ServiceError, SettingsError, UnknownService
from supervisor.services.output import LogFile
from tests.api.stage import in_process, over_http
from tests.fakes.control import Pressed

pytestmark = pytest.mark.anyio


def logged(folder: Path, name: str, *lines: str) -> LogFile:
    file = LogFile(folder / "logs" / f"{name}.log")
    file.write(lines)
    return file


async def test_services_are_told_with_what_they_use(tmp_path: Path) -> None:
    async with in_process(tmp_path, control=Pressed()) as stage:
        answer = await stage.client.get("/v1/services")

    (engine,) = answer.json()["services"]
    assert engine["name"] == "engine"
    assert (engine["state"], engine["restarts"], engine["last_exit"]) == ("ready", 2, -9)
    assert (engine["rss"], engine["cpu"], engine["cpu_percent"]) == (2**20, 3.5, 5.8)


async def test_each_button_is_pressed_once_and_answered(tmp_path: Path) -> None:
    pressed = Pressed()
    async with in_process(tmp_path, control=pressed) as stage:
        restart = await stage.client.post("/v1/services/engine/restart")
        reload = await stage.client.post("/v1/reload")
        stop = await stage.client.post("/v1/stop")

    assert pressed.buttons == ["restart engine", "reload", "stop"]
    assert restart.json()["state"] == "ready"
    assert reload.json() == {"changed": ["CLAWLAMA_LEAN"], "restarted": ["openclaw"], "needs_restart": []}
    assert (stop.status_code, stop.json()) == (202, {"status": "stopping"})


@pytest.mark.parametrize(
    ("problem", "status", "said"),
    [
        (UnknownService("x", ("engine",)), 404, "known: engine"),
        (ServiceError("engine", "is paused"), 503, "is paused"),
        (SettingsError("CLAWLAMA_LEAN='perhaps': no"), 409, "CLAWLAMA_LEAN"),
    ],
)
async def test_what_cannot_be_done_is_said(tmp_path: Path, problem: Exception, status: int, said: str) -> None:
    async with in_process(tmp_path, control=Pressed(problem=problem)) as stage:
        for path in ("/v1/services/x/restart", "/v1/reload"):
            answer = await stage.client.post(path)

            assert answer.status_code == status
            assert said in answer.json()["error"]["message"]


async def test_nobody_presses_a_button_or_reads_a_log_without_the_token(tmp_path: Path) -> None:
    pressed = Pressed()
    async with in_process(tmp_path, control=pressed) as stage:
        stage.client.headers.pop("authorization")
        answers = [await stage.client.post(path) for path in ("/v1/stop", "/v1/reload", "/v1/services/engine/restart")]
        answers += [await stage.client.get(path) for path in ("/v1/services", "/v1/logs")]

    assert {answer.status_code for answer in answers} == {401}
    assert pressed.buttons == []


async def test_logs_are_told_as_text_or_as_json_lines(tmp_path: Path) -> None:
    logged(tmp_path, "engine", "one", "two", "[three]")
    async with in_process(tmp_path) as stage:
        text = await stage.client.get("/v1/logs", params={"lines": 2})
        lines = await stage.client.get("/v1/logs", params={"lines": 2}, headers={"Accept": "application/x-ndjson"})

    assert [line.split(" ", 1)[1] for line in text.text.splitlines()] == ["engine     │ two", "engine     │ [three]"]
    assert [json.loads(line)["line"] for line in lines.text.splitlines()] == ["two", "[three]"]
    assert lines.headers["content-type"] == "application/x-ndjson"
    assert {frozenset(json.loads(line)) for line in lines.text.splitlines()} == {frozenset({"time", "service", "line"})}


async def test_only_the_logs_that_were_asked_for_are_told(tmp_path: Path) -> None:
    for name in ("engine", "lesson", "openclaw"):
        logged(tmp_path, name, f"from {name}")
    async with in_process(tmp_path) as stage:
        two = await stage.client.get("/v1/logs", params={"service": ["engine", "openclaw"]})
        none = await stage.client.get("/v1/logs", params={"service": "opnclaw"})

    assert [line.rpartition(" ")[2] for line in two.text.splitlines()] == ["engine", "openclaw"]
    assert none.status_code == 404
    assert "these have: engine, lesson, openclaw" in none.json()["error"]["message"]


@pytest.mark.parametrize("count", ["-1", "10001", "many"])
async def test_an_odd_number_of_lines_is_refused(tmp_path: Path, count: str) -> None:
    async with in_process(tmp_path) as stage:
        assert (await stage.client.get("/v1/logs", params={"lines": count})).status_code == 422


async def test_a_follower_is_told_what_comes_until_it_leaves(tmp_path: Path) -> None:
    file = logged(tmp_path, "engine", "old")
    seen: list[str] = []
    with anyio.fail_after(20):
        async with (
            over_http(tmp_path) as stage,
            stage.client.stream("GET", "/v1/logs", params={"follow": "true"}) as answer,
        ):
            async for line in answer.aiter_lines():
                seen.append(line.rpartition(" ")[2])
                if len(seen) == 3:
                    break
                file.write([f"new{len(seen)}"])

    assert seen == ["old", "new1", "new2"]
