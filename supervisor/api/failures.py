"""Every error becomes one status, and one shape: OpenAI's clients read ``error.message``, older ones ``detail``.

Clients of Ollama's own routes read a text in ``error``.
"""

import json
from collections.abc import Sequence
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from supervisor.errors import (
    ClawlamaError,
    EngineError,
    JournalError,
    MachineError,
    NoSuchEntry,
    NothingLogged,
    RequestError,
    ServiceError,
    SettingsError,
    UnknownModel,
    UnknownService,
)

STATUS: tuple[tuple[type[ClawlamaError], int], ...] = (  # the first that fits
    (UnknownModel, 404),
    (NoSuchEntry, 404),
    (UnknownService, 404),
    (NothingLogged, 404),
    (SettingsError, 409),
    (EngineError, 503),
    (ServiceError, 503),
    (JournalError, 503),
    (MachineError, 503),
    (ClawlamaError, 500),
)
KINDS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    503: "service_unavailable",
}
NATIVE = "/api/"  # Ollama's own routes begin so
RETRY_AFTER = "5"  # seconds; an engine that is being restarted is back by then

log: structlog.stdlib.BoundLogger = structlog.get_logger()


def status_of(exc: ClawlamaError) -> int:
    if isinstance(exc, RequestError):
        return exc.status
    return next(status for kind, status in STATUS if isinstance(exc, kind))


def failure_body(status: int, message: str) -> dict[str, Any]:
    kind = KINDS.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "code": status, "param": None}, "detail": message}


def failure(status: int, message: str, path: str) -> JSONResponse:
    """The answer for an error on this path; 503 says when to come back."""
    headers = {"Retry-After": RETRY_AFTER} if status == 503 else None
    native = path.startswith(NATIVE)
    return JSONResponse({"error": message} if native else failure_body(status, message), status, headers)


def failure_of(exc: ClawlamaError, path: str) -> JSONResponse:
    status = status_of(exc)
    if status >= 500:
        log.warning("request failed", status=status, error=str(exc))
    return failure(status, str(exc), path)


def explain(errors: Sequence[Any]) -> str:
    """Pydantic's errors in one line: where, what, and what was given."""
    return "; ".join(f"{_where(error['loc'])}: {error['msg']}{_given(error)}" for error in errors)


def handle_failures(app: FastAPI) -> None:
    """Give every error that a route raises on purpose its answer."""

    @app.exception_handler(ClawlamaError)
    async def ours(request: Request, exc: ClawlamaError) -> JSONResponse:
        return failure_of(exc, request.url.path)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, exc: RequestValidationError) -> JSONResponse:
        return failure(422, explain(exc.errors()), request.url.path)

    @app.exception_handler(HTTPException)
    async def http(request: Request, exc: HTTPException) -> JSONResponse:
        answer = failure(exc.status_code, str(exc.detail), request.url.path)
        answer.headers.update(exc.headers or {})
        return answer


class NothingEscapes:
    """The outermost ring: what nobody foresaw is logged with its traceback and answered with a plain 500."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception:
            log.exception("unforeseen error in the API", path=scope.get("path"))
            if scope["type"] != "http" or begun:
                raise
            await failure(500, "something unforeseen went wrong; the log has the details", scope["path"])(
                scope, receive, send
            )


def _where(loc: Sequence[str | int]) -> str:
    parts = [str(part) for part in loc if part not in ("body", "query", "path", "single", "batch")]
    return ".".join(parts) or "the body"


def _given(error: dict[str, Any]) -> str:
    if "input" not in error or error["type"] in ("missing", "json_invalid"):
        return ""
    given = json.dumps(error["input"], default=str, ensure_ascii=False)
    return f" (got {given if len(given) <= 80 else given[:77] + '...'})"
