"""Whether the gateway serves. Its unknown paths answer 200 with HTML, so the JSON counts, not the status."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import httpx

from supervisor.errors import NotReady
from supervisor.services.probe import http_answers


@dataclass(frozen=True)
class Readiness:
    """``failing`` names what keeps a started gateway from being ready, such as a channel with a bad token."""

    ready: bool
    failing: tuple[str, ...]
    uptime_s: float


def gateway_started(url: str) -> Callable[[], Awaitable[None]]:
    """A probe for ``Service.answers``: returns once the gateway says that it has started.

    Not ``/readyz``: a channel that fails must not restart the gateway.
    """
    return http_answers(f"{url}/startupz", says_started)


def says_started(response: httpx.Response) -> bool:
    """ValueError when the body is not JSON, which the poller takes as "not yet"."""
    answer = response.json()
    return isinstance(answer, dict) and answer.get("ok") is True and answer.get("status") == "started"


async def readiness(url: str, *, timeout: float = 5.0) -> Readiness:
    """What ``/readyz`` reports, for status pages. NotReady when nothing, or something else, answers there."""
    try:
        async with httpx.AsyncClient(trust_env=False, verify=False, timeout=timeout) as client:  # noqa: S501 - loopback, plain http
            answer = (await client.get(f"{url}/readyz")).json()
    except (httpx.TransportError, ValueError) as exc:
        raise NotReady("openclaw", f"no readiness report from {url}/readyz; see its log") from exc
    if not isinstance(answer, dict) or not isinstance(answer.get("ready"), bool):
        raise NotReady("openclaw", f"{url}/readyz is not OpenClaw's; another program may hold the port")
    failing = tuple(str(name) for name in answer.get("failing", []))
    return Readiness(answer["ready"], failing, float(answer.get("uptimeMs", 0)) / 1000)
