"""Talks to a running supervisor: finds its address and token in the data folder."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from supervisor.errors import ClawlamaError, NotRunning
from supervisor.running import Running, held, read_running
from supervisor.settings.datadir import DataDir
from supervisor.settings.settings import Settings

NO_LIMIT = httpx.Timeout(10.0, read=None)  # a lesson takes as long as it takes


class Refused(ClawlamaError):
    """The supervisor answered with an error."""


@dataclass(frozen=True)
class Client:
    """Calls of the supervisor's API. Every method raises NotRunning or Refused."""

    running: Running
    http: httpx.Client

    def get(self, path: str, **params: str | int) -> Any:  # noqa: ANN401 - JSON
        return self._call("GET", path, params=params)

    def post(self, path: str, body: dict[str, Any], **params: str) -> Any:  # noqa: ANN401 - JSON
        return self._call("POST", path, json=body, params=params)

    def events(self, path: str) -> Iterator[dict[str, Any]]:
        """A lesson's states, until it ends."""
        try:
            with self.http.stream("GET", path) as answer:
                if not answer.is_success:
                    answer.read()
                    raise Refused(problem(answer))
                for line in answer.iter_lines():
                    if line == "event: end":
                        return
                    if line.startswith("data: "):
                        yield json.loads(line.removeprefix("data: "))
        except httpx.TransportError as exc:
            raise gone(self.running, exc) from exc

    def _call(self, method: str, path: str, **more: Any) -> Any:  # noqa: ANN401
        try:
            answer = self.http.request(method, path, **more)
        except httpx.TransportError as exc:
            raise gone(self.running, exc) from exc
        if not answer.is_success:
            raise Refused(problem(answer))
        return answer.json()


@contextmanager
def connected(settings: Settings) -> Iterator[Client]:
    """Raises NotRunning when no supervisor holds the data folder."""
    data = DataDir(settings.data)
    running = read_running(data)
    if running is None and held(data):
        raise NotRunning(f"clawlama on {settings.data} is about to start or to stop; try again in a moment")
    if running is None:
        raise NotRunning(f"no clawlama is running on {settings.data}; start one with: clawlama up")
    headers = {"Authorization": f"Bearer {running.api_token}"}
    with httpx.Client(base_url=running.api_url, headers=headers, timeout=NO_LIMIT, trust_env=False) as http:
        yield Client(running, http)


def gone(running: Running, exc: httpx.TransportError) -> NotRunning:
    return NotRunning(f"{running.api_url} does not answer ({exc or type(exc).__name__}); see: clawlama logs clawlama")


def problem(answer: httpx.Response) -> str:
    """The message in an error answer, whatever its shape."""
    try:
        body = answer.json()
    except json.JSONDecodeError:
        return f"HTTP {answer.status_code}: {answer.text[:200]}"
    found = body.get("error", body.get("detail", body)) if isinstance(body, dict) else body
    if isinstance(found, dict):
        found = found.get("message", found)
    return str(found)
