"""How we learn that a service serves."""

import ssl
from collections.abc import Awaitable, Callable

import anyio
import httpx


def http_answers(
    url: str,
    accept: Callable[[httpx.Response], bool] = lambda response: response.is_success,
    *,
    every: float = 0.2,
    timeout: float = 5.0,
) -> Callable[[], Awaitable[None]]:
    """A probe that returns once ``accept`` likes an answer; the caller owns the patience.

    ``every`` and ``timeout`` are seconds, between requests and for each. No connection, a broken answer
    and a ValueError in ``accept`` (a body that is not the JSON it expects) mean "not yet". For plain http
    on this machine: proxies from the environment are ignored and no certificate is trusted.
    """

    async def answers() -> None:
        nothing_trusted = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # loading the usual bundle is slow
        async with httpx.AsyncClient(trust_env=False, verify=nothing_trusted, timeout=timeout) as client:
            while not await _accepted(client, url, accept):  # noqa: ASYNC110 - nothing else announces it
                await anyio.sleep(every)

    return answers


async def _accepted(client: httpx.AsyncClient, url: str, accept: Callable[[httpx.Response], bool]) -> bool:
    try:
        return accept(await client.get(url))
    except (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError, httpx.DecodingError, ValueError):
        return False
