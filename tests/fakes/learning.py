"""Our API as OpenClaw's plugin sees it, as a real HTTP server: records feedback, answers what it is told to."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from tests.fakes.openai import serving

GATHERING = {"lesson_id": "lesson-1", "status": "gathering", "pending": 1, "batch_size": 4}


@dataclass(frozen=True)
class Posted:
    query: dict[str, str]
    authorization: str
    body: dict[str, Any]


@dataclass
class FakeLearning:
    answer: tuple[int, dict[str, Any]] = (202, GATHERING)
    lessons: list[dict[str, Any]] = field(default_factory=list)
    posted: list[Posted] = field(default_factory=list)
    url: str = ""

    def app(self) -> FastAPI:
        app = FastAPI()
        app.post("/v1/feedback")(self._feedback)
        app.get("/v1/lessons")(self._lessons)
        return app

    async def _feedback(self, request: Request) -> JSONResponse:
        headers = request.headers
        self.posted.append(Posted(dict(request.query_params), headers.get("authorization", ""), await request.json()))
        status, body = self.answer
        return JSONResponse(body, status)

    async def _lessons(self) -> JSONResponse:
        return JSONResponse({"lessons": self.lessons})


@asynccontextmanager
async def fake_learning() -> AsyncIterator[FakeLearning]:
    fake = FakeLearning()
    async with serving(fake.app()) as url:
        fake.url = url
        yield fake
