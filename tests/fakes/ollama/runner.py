"""One model in memory, seen from the server: it starts the child that serves it, talks to it and ends it."""

import json
import sys
from dataclasses import asdict, dataclass
from typing import Any

import anyio
import httpx
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from tests.fakes.ollama.failures import Refused
from tests.fakes.ollama.runner_process import RunnerConfig

TIMEOUT = httpx.Timeout(10.0, read=600.0)
# llama.cpp's server closes a connection after some requests, or when it was idle: it could do so as we send the next.
ONE_REQUEST_EACH = httpx.Limits(max_keepalive_connections=0)


@dataclass
class Child:
    process: Process
    client: httpx.AsyncClient

    @property
    def alive(self) -> bool:
        return self.process.returncode is None

    async def ask(self, path: str, body: dict[str, Any]) -> Any:
        """The parsed answer. Raises Refused with what llama.cpp said."""
        try:
            answer = await self.client.post(path, json=body)
        except httpx.TransportError as exc:
            raise Refused(500, f"llama runner process has terminated: {exc or type(exc).__name__}") from exc
        if not answer.is_success:
            raise Refused(400 if answer.status_code < 500 else 500, complaint(answer))
        return answer.json()

    async def end(self) -> None:
        with anyio.CancelScope(shield=True):
            await self.client.aclose()
            if self.alive:
                self.process.kill()
            await self.process.aclose()


def complaint(answer: httpx.Response) -> str:
    """llama.cpp's own message out of ``{"error": {"message": ...}}``."""
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return answer.text.strip()


async def start(config: RunnerConfig) -> Child:
    """Return once the model is loaded. Raises Refused in Ollama's words when it does not load."""
    process = await anyio.open_process(
        [sys.executable, "-m", "tests.fakes.ollama.runner_process", json.dumps(asdict(config))], stderr=None
    )
    assert process.stdout is not None
    try:
        line = await BufferedByteReceiveStream(process.stdout).receive_until(b"\n", 1000)
    except (anyio.IncompleteRead, anyio.EndOfStream) as exc:
        code = await process.wait()
        raise Refused(500, f"llama runner process has terminated: exit status {code}") from exc
    except BaseException:  # cancelled while it loads: nobody else knows of the child
        with anyio.CancelScope(shield=True):
            process.kill()
            await process.aclose()
        raise
    client = httpx.AsyncClient(base_url=line.decode(), timeout=TIMEOUT, limits=ONE_REQUEST_EACH, trust_env=False)
    return Child(process, client)
