"""An OpenAI-compatible model server that is real HTTP: records what it is asked and streams a scripted reply."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from supervisor.gateway.bookkeeping import PROMPT_HEADER, for_the_model
from tests.fakes.ports import listening_socket

Messages = list[dict[str, Any]]


@dataclass(frozen=True)
class Asked:
    """One request as it arrived."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def messages(self) -> Messages:
        """As our API would show them to the model."""
        sent = list(self.body.get("messages", []))
        reading = self.headers.get(PROMPT_HEADER)
        return for_the_model(sent, "lean" if reading == "lean" else "full") if reading else sent

    @property
    def system(self) -> str:
        """The system prompt, empty when there is none."""
        return "".join(_text(m) for m in self.messages if m["role"] in ("system", "developer"))

    @property
    def tools(self) -> list[str]:
        return [tool["function"]["name"] for tool in self.body.get("tools", [])]


def _text(message: dict[str, Any]) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def echo(messages: Messages) -> str:
    """The default reply: names how many messages came, so that a test sees which turn it reads."""
    return f"You said {len(messages)} things; hello! 😀"


@dataclass
class FakeOpenAI:
    """What the server does; ``reply`` may be swapped while it runs."""

    models: tuple[str, ...] = ("fake",)
    reply: Callable[[Messages], str] = echo
    hold: anyio.Event | None = None  # set it to let replies that have begun go on
    asked: list[Asked] = field(default_factory=list)
    url: str = ""  # ends in /v1

    def app(self) -> FastAPI:
        app = FastAPI()
        app.get("/v1/models")(self._models)
        app.post("/v1/chat/completions")(self._chat)
        return app

    async def _models(self) -> JSONResponse:
        return JSONResponse({"object": "list", "data": [{"id": name, "object": "model"} for name in self.models]})

    async def _chat(self, request: Request) -> Response:
        asked = Asked(request.url.path, dict(request.headers), await request.json())
        self.asked.append(asked)
        text = self.reply(asked.messages)
        if asked.body.get("stream"):
            return StreamingResponse(self._stream(asked, text), media_type="text/event-stream")
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return JSONResponse(_frame("chat.completion", asked, [choice]) | {"usage": _usage(text)})

    async def _stream(self, asked: Asked, text: str) -> AsyncIterator[bytes]:
        yield _event(_frame("chat.completion.chunk", asked, [_choice({"role": "assistant", "content": ""})]))
        for index, word in enumerate(text.split(" ")):
            if index and self.hold is not None:
                await self.hold.wait()
            piece = word if index == 0 else f" {word}"
            yield _event(_frame("chat.completion.chunk", asked, [_choice({"content": piece})]))
        yield _event(_frame("chat.completion.chunk", asked, [_choice({}, "stop")]))
        yield _event(_frame("chat.completion.chunk", asked, []) | {"usage": _usage(text)})
        yield b"data: [DONE]\n\n"


def _frame(kind: str, asked: Asked, choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": "chatcmpl-fake", "object": kind, "created": 0, "model": asked.body["model"], "choices": choices}


def _choice(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "finish_reason": finish}


def _usage(text: str) -> dict[str, int]:
    words = len(text.split())
    return {"prompt_tokens": 1, "completion_tokens": words, "total_tokens": words + 1}


def _event(payload: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(payload)}\n\n".encode()


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the test runner."""
        yield


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[str]:
    """The app on a free loopback port; yields ``http://127.0.0.1:PORT``."""
    config = uvicorn.Config(app, log_level="error", lifespan="off", ws="none", timeout_graceful_shutdown=1)
    server = _Server(config)
    with listening_socket() as listener:
        host, port = listener.getsockname()
        async with anyio.create_task_group() as group:
            group.start_soon(server.serve, [listener])
            try:
                with anyio.fail_after(10):
                    while not server.started:  # noqa: ASYNC110 - uvicorn announces its start by this flag only
                        await anyio.sleep(0.01)
                yield f"http://{host}:{port}"
            finally:
                server.should_exit = True


@asynccontextmanager
async def fake_openai(**script: Any) -> AsyncIterator[FakeOpenAI]:
    """A running fake; keyword arguments are FakeOpenAI's fields."""
    fake = FakeOpenAI(**script)
    async with serving(fake.app()) as url:
        fake.url = f"{url}/v1"
        yield fake
