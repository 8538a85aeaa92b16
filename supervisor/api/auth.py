"""The one door: a bearer token on everything but what says no more than "I am here"."""

import hmac
from collections.abc import Collection

from starlette.datastructures import Headers, QueryParams
from starlette.types import ASGIApp, Receive, Scope, Send

from supervisor.api.failures import NATIVE, failure

OPEN = frozenset({"/", "/health", "/healthz"})


class TokenRequired:
    """Lets a request pass that carries the token: ``Authorization: Bearer TOKEN``, or ``?token=`` for a page."""

    def __init__(self, app: ASGIApp, token: str, also_open: Collection[str] = ()) -> None:
        self._app = app
        self._open = OPEN.union(also_open)
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in self._open or self._known(scope):
            await self._app(scope, receive, send)
            return
        answer = failure(
            401,
            "this needs the API token: send it as 'Authorization: Bearer TOKEN'. "
            "It stands in the folder 'secrets' of the data folder and in the start banner",
            scope["path"],
        )
        answer.headers["WWW-Authenticate"] = 'Bearer realm="clawlama"'
        await answer(scope, receive, send)

    def _known(self, scope: Scope) -> bool:
        scheme, _, given = Headers(scope=scope).get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            page = scope["method"] == "GET" and not scope["path"].startswith(NATIVE)
            given = QueryParams(scope["query_string"]).get("token", "") if page else ""
        return hmac.compare_digest(given.strip().encode(), self._token)
