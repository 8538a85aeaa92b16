"""On loopback Ollama answers only requests whose Host header names this machine: a web page cannot rebind its way."""

import ipaddress
import socket

from starlette.types import ASGIApp, Receive, Scope, Send

LOCAL_ENDINGS = (".localhost", ".local", ".internal")


class HostCheck:
    def __init__(self, app: ASGIApp, listening: str) -> None:
        self._app = app
        self._open = not is_loopback(listening)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._open:
            host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
            if not allowed(host):
                await send({"type": "http.response.start", "status": 403, "headers": [(b"content-length", b"0")]})
                await send({"type": "http.response.body", "body": b""})
                return
        await self._app(scope, receive, send)


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def allowed(header: str) -> bool:
    host = header.partition("]")[0].lstrip("[") if header.startswith("[") else header.partition(":")[0]
    host = host.lower()
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host in {"", "localhost", socket.gethostname().lower()} or host.endswith(LOCAL_ENDINGS)
    return address.is_private or address.is_loopback or address.is_unspecified
