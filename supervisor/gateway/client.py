"""Talks to the assistant through the gateway, the way a person's program would."""

import json
from collections.abc import AsyncGenerator
from typing import Any
from urllib.parse import quote

import httpx

from supervisor.errors import GatewayError

PATIENCE = httpx.Timeout(10.0, read=600.0)
"""Seconds; a reply may start late on a slow machine, a connection may not."""


async def ask(url: str, token: str, prompt: str, *, session: str) -> AsyncGenerator[str, None]:
    """The reply to ``prompt`` in pieces as they come. Equal ``session`` values share one conversation.

    Raises GatewayError when the gateway cannot be reached, refuses, or breaks off with an error.
    """
    body = {
        "model": "openclaw/default",
        "user": session,
        "stream": True,
        "messages": [{"role": "user", "content": prompt}],
    }
    headers = {"Authorization": f"Bearer {token}"}
    try:
        async with (
            httpx.AsyncClient(trust_env=False, verify=False, timeout=PATIENCE) as client,  # noqa: S501 - loopback, plain http
            client.stream("POST", f"{url}/v1/chat/completions", json=body, headers=headers) as response,
        ):
            if not response.is_success:
                raise GatewayError(
                    _refusal(url, response.status_code, (await response.aread()).decode(errors="replace"))
                )
            async for line in response.aiter_lines():
                if piece := _piece(line):
                    yield piece
    except httpx.TransportError as exc:
        raise GatewayError(
            f"OpenClaw at {url} cannot be reached ({exc or type(exc).__name__}); is clawlama up?"
        ) from exc


def control_ui_url(url: str, token: str) -> str:
    """Address that opens OpenClaw's web UI signed in. The token is in the fragment, which no server sees."""
    return f"{url}/#token={quote(token, safe='')}"


def _piece(line: str) -> str:
    if not line.startswith("data: ") or line == "data: [DONE]":
        return ""
    frame: dict[str, Any] = json.loads(line.removeprefix("data: "))
    if "error" in frame:
        raise GatewayError(f"OpenClaw could not answer: {frame['error'].get('message', frame['error'])}")
    return "".join(choice["delta"].get("content") or "" for choice in frame["choices"])


def _refusal(url: str, status: int, body: str) -> str:
    if status == 401:
        return f"OpenClaw at {url} refused the token; use the one of this data folder"
    try:
        reason = json.loads(body)["error"]["message"]
    except (json.JSONDecodeError, KeyError, TypeError):
        reason = body[:300] or "no explanation"
    return f"OpenClaw at {url} answered {status}: {reason}"
