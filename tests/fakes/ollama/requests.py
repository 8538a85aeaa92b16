"""Reading requests as Ollama does, and refusing them in its words."""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp

from tests.fakes.ollama.answer import Chunk, whole
from tests.fakes.ollama.failures import Refused, bad_request, go_words

Endpoint = Callable[[Request], Awaitable[ASGIApp]]
Complain = Callable[[int, str], Chunk]


def refusing(endpoint: Endpoint, complain: Complain) -> Callable[[Request], Awaitable[Any]]:
    """Answers what is refused before an answer began."""

    async def handle(request: Request) -> Any:
        try:
            return await endpoint(request)
        except Refused as refused:
            return whole(complain(refused.status, refused.message), refused.status)
        except ClientDisconnect:
            return Response(status_code=499)

    return handle


async def body_of(request: Request) -> Chunk:
    """Raises Refused, nearly in the words of Go's decoder."""
    content = await request.body()
    if not content.strip():
        raise bad_request("missing request body")
    try:
        body = json.loads(content)
    except json.JSONDecodeError as exc:
        raise bad_request(go_words(exc)) from exc
    if not isinstance(body, dict):
        raise bad_request("json: cannot unmarshal array into Go value")
    return body


def named(body: Mapping[str, Any]) -> str:
    return str(body.get("model") or body.get("name") or "")


def inputs(given: Any) -> list[str]:
    """Of an embedding request. Raises Refused."""
    if isinstance(given, str):
        return [given] if given else []
    if given is None or (isinstance(given, list) and all(isinstance(text, str) for text in given)):
        return list(given or [])
    raise bad_request("invalid input type")
