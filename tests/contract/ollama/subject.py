"""The server under contract: the stand-in, or what CLAWLAMA_TEST_OLLAMA names; with a tiny model of ours on it."""

import hashlib
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import httpx
import ollama

GREEDY = {"temperature": 0, "seed": 7}
QUESTION = [{"role": "user", "content": "What is your name?"}]
PATIENCE = 120.0  # seconds; a real server may first load its runner


@dataclass
class Subject:
    """``prefix`` is a namespace that nobody else uses; ``base`` is the tiny model in it."""

    url: str
    prefix: str
    http: httpx.AsyncClient
    client: ollama.AsyncClient
    outcomes: dict[str, str] = field(default_factory=dict)

    @property
    def base(self) -> str:
        return self.name("base")

    def name(self, tag: str) -> str:
        return f"{self.prefix}/tiny:{tag}"

    async def post(self, path: str, body: Mapping[str, Any]) -> httpx.Response:
        with anyio.fail_after(PATIENCE):
            return await self.http.post(path, json=body)

    async def lines(self, path: str, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The objects of an NDJSON answer; each line is one."""
        with anyio.fail_after(PATIENCE):
            async with self.http.stream("POST", path, json=body) as answer:
                assert answer.status_code == 200, await answer.aread()
                assert answer.headers["content-type"] == "application/x-ndjson"
                return [json.loads(line) async for line in answer.aiter_lines()]

    async def said(self, model: str, **body: Any) -> str:
        """A greedy reply of a few tokens."""
        asked = {"model": model, "messages": QUESTION, "stream": False, "options": {**GREEDY, "num_predict": 12}}
        answer = await self.post("/api/chat", {**asked, **body})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["message"]["content"])

    async def upload(self, file: Path) -> str:
        """The digest under which the server has the file now."""
        with anyio.fail_after(PATIENCE):
            return str(await self.client.create_blob(file))

    async def loaded(self) -> dict[str, dict[str, Any]]:
        """What /api/ps says of our own models, by the name that brought them into memory."""
        models = (await self.http.get("/api/ps")).json()["models"]
        return {model["name"]: model for model in models if model["name"].startswith(self.prefix)}

    async def unload(self, model: str) -> None:
        """Returns once its weights, under whichever name, are out of memory: the request does not wait for that."""
        await self.post("/api/generate", {"model": model, "keep_alive": 0})
        with anyio.fail_after(PATIENCE):
            while await self.loaded():  # noqa: ASYNC110 - nothing announces it
                await anyio.sleep(0.01)

    async def delete(self, model: str) -> int:
        with anyio.fail_after(PATIENCE):
            answer = await self.http.request("DELETE", "/api/delete", json={"model": model})
        return answer.status_code


@asynccontextmanager
async def connected(url: str, prefix: str) -> AsyncGenerator[Subject, None]:
    timeout = httpx.Timeout(PATIENCE)
    async with (
        httpx.AsyncClient(base_url=url, timeout=timeout, trust_env=False) as http,
        ollama.AsyncClient(host=url, timeout=timeout, trust_env=False) as client,
    ):
        yield Subject(url, prefix, http, client)


@asynccontextmanager
async def with_base(subject: Subject, gguf: Path) -> AsyncGenerator[None, None]:
    """The tiny model is there; everything under the prefix is gone afterwards, but for a few small unused blobs."""
    digest = await subject.upload(gguf)
    await subject.client.create(model=subject.base, files={gguf.name: digest}, parameters={"num_ctx": 1024})
    try:
        yield
    finally:
        with anyio.CancelScope(shield=True):
            await subject.unload(subject.base)
            for model in (await subject.http.get("/api/tags")).json()["models"]:
                if model["name"].startswith(subject.prefix):
                    await subject.delete(model["name"])


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
