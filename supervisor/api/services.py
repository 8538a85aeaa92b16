"""The processes behind the API: how they fare, what they print, and the buttons to restart, reload and stop."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import anyio
from fastapi import APIRouter, Query, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from supervisor.api.context import ApiContext
from supervisor.api.control import Reloaded
from supervisor.api.presence import while_present
from supervisor.api.sse import send_part
from supervisor.services.logs import Line, Logs
from supervisor.services.status import ServiceStatus

LOOK_AGAIN = 0.25  # seconds between two looks for new lines
NDJSON = "application/x-ndjson"

Names = Annotated[list[str], Query(default_factory=list, description="Services; none: all of them.")]
Count = Annotated[int, Query(ge=0, le=10_000)]


def service_routes(context: ApiContext) -> APIRouter:
    router = APIRouter(tags=["services"])
    control = context.control

    @router.get("/v1/services")
    async def services() -> dict[str, list[ServiceStatus]]:
        """Every service in start order."""
        return {"services": list(control.services())}

    @router.post("/v1/services/{name}/restart")
    async def restart(name: str) -> ServiceStatus:
        """Replace the process; answers when the new one is ready."""
        return await control.restart(name)

    @router.post("/v1/reload")
    async def reload() -> Reloaded:
        """Read the settings again, and restart what read those that changed."""
        return await control.reload()

    @router.post("/v1/stop", status_code=202)
    async def stop() -> dict[str, Any]:
        """End everything, as SIGTERM does; answers at once."""
        control.stop()
        return {"status": "stopping"}

    @router.get("/v1/logs")
    async def logs(request: Request, service: Names, lines: Count = 100, follow: bool = False) -> Response:
        """The newest lines in order of time, and with ``follow`` those to come; as text, or NDJSON if you accept it."""
        read = await anyio.to_thread.run_sync(Logs, context.data.logs, service)
        return LogStream(read, lines, follow=follow, as_json=NDJSON in request.headers.get("accept", ""))

    return router


class LogStream(Response):
    """Lines until the client leaves, or only those that are there."""

    def __init__(self, logs: Logs, count: int, *, follow: bool, as_json: bool) -> None:
        super().__init__()
        self._logs = logs
        self._count = count
        self._follow = follow
        self._form: Callable[[Line], str] = Line.as_json if as_json else str
        self._type = NDJSON.encode() if as_json else b"text/plain; charset=utf-8"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", self._type), (b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        try:
            await while_present(receive, lambda: self._tell(send))
        finally:
            self._logs.close()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _tell(self, send: Send) -> None:
        await self._send(send, await anyio.to_thread.run_sync(self._logs.last, self._count))
        while self._follow:
            lines = await anyio.to_thread.run_sync(self._logs.fresh)
            await self._send(send, lines)
            if not lines:
                await anyio.sleep(LOOK_AGAIN)

    async def _send(self, send: Send, lines: Sequence[Line]) -> None:
        await send_part(send, "".join(f"{self._form(line)}\n" for line in lines).encode())
