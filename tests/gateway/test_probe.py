import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import HTMLResponse, JSONResponse

from supervisor.errors import NotReady
from supervisor.gateway.probe import gateway_started, readiness, says_started
from tests.fakes.openai import serving
from tests.fakes.ports import free_port

pytestmark = pytest.mark.anyio


async def started() -> JSONResponse:
    return JSONResponse({"ok": True, "status": "started"})


async def not_ready() -> JSONResponse:
    return JSONResponse({"ready": False, "failing": ["telegram"], "uptimeMs": 1500}, 503)


async def page() -> HTMLResponse:
    return HTMLResponse("<title>Control UI</title>")


def app_with(path: str, answer: object) -> FastAPI:
    app = FastAPI()
    app.get(path)(answer)  # type: ignore[type-var]
    return app


async def test_the_probe_returns_once_the_gateway_says_it_has_started() -> None:
    async with serving(app_with("/startupz", started)) as url:
        await gateway_started(url)()


@pytest.mark.parametrize("answer", [{"ok": True, "status": "starting"}, {"ok": False}, ["started"]])
def test_any_other_json_is_not_a_started_gateway(answer: object) -> None:
    assert not says_started(httpx.Response(200, json=answer))


def test_a_page_with_status_200_is_no_answer() -> None:
    with pytest.raises(ValueError, match="Expecting value"):
        says_started(httpx.Response(200, html="<title>Control UI</title>"))


async def test_readiness_names_the_channel_that_fails() -> None:
    async with serving(app_with("/readyz", not_ready)) as url:
        report = await readiness(url)

    assert (report.ready, report.failing, report.uptime_s) == (False, ("telegram",), 1.5)


async def test_readiness_of_another_program_is_an_error() -> None:
    async with serving(app_with("/readyz", page)) as url:
        with pytest.raises(NotReady, match="openclaw"):
            await readiness(url)


async def test_readiness_of_nothing_is_an_error() -> None:
    with pytest.raises(NotReady, match="no readiness report"):
        await readiness(f"http://127.0.0.1:{free_port()}")
