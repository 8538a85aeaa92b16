"""The client against a server of the same shape as the gateway; tests/gateway/test_plugin.py uses the real one."""

import anyio
import pytest
from fastapi import FastAPI
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from supervisor.errors import GatewayError
from supervisor.gateway.client import ask, control_ui_url
from tests.fakes.openai import fake_openai, serving
from tests.fakes.ports import free_port

pytestmark = pytest.mark.anyio


async def reply(url: str) -> str:
    with anyio.fail_after(10):
        return "".join([piece async for piece in ask(url, "token", "hi", session="s")])


def app_that_answers(answer: Response) -> FastAPI:
    app = FastAPI()

    @app.post("/v1/chat/completions")
    async def chat() -> Response:
        return answer

    return app


async def test_a_reply_comes_in_pieces_while_it_is_written() -> None:
    async with fake_openai(reply=lambda _: "one two three", hold=anyio.Event()) as fake:
        pieces = ask(fake.url.removesuffix("/v1"), "token", "hi", session="s")
        with anyio.fail_after(10):
            first = await anext(pieces)
            assert fake.hold is not None
            fake.hold.set()
            rest = [piece async for piece in pieces]

    assert (first, rest) == ("one", [" two", " three"])


async def test_the_session_and_the_token_are_sent() -> None:
    async with fake_openai() as fake:
        await reply(fake.url.removesuffix("/v1"))

    asked = fake.asked[0]
    assert asked.headers["authorization"] == "Bearer token"
    assert asked.body["user"] == "s"


async def test_a_gateway_that_is_down_is_named() -> None:
    url = f"http://127.0.0.1:{free_port()}"

    with pytest.raises(GatewayError, match=rf"{url} cannot be reached.*is clawlama up"):
        await reply(url)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (JSONResponse({"error": {"message": "bad token"}}, 401), "refused the token"),
        (JSONResponse({"error": {"message": "queue full"}}, 429), "answered 429: queue full"),
        (PlainTextResponse("oops", 502), "answered 502: oops"),
        (PlainTextResponse("", 500), "answered 500: no explanation"),
        (PlainTextResponse('data: {"error": {"message": "model is away"}}\n\n'), "could not answer: model is away"),
    ],
)
async def test_a_refusal_says_why(answer: Response, message: str) -> None:
    async with serving(app_that_answers(answer)) as url:
        with pytest.raises(GatewayError, match=message):
            await reply(url)


def test_the_control_ui_link_carries_the_token_where_no_server_sees_it() -> None:
    assert control_ui_url("http://127.0.0.1:18789", "a/b c") == "http://127.0.0.1:18789/#token=a%2Fb%20c"
