"""Plain HTTP to the server, where the official client would read an answer that we pass on as it comes."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx

from supervisor.engines.ollama.setup import Address
from supervisor.errors import EngineError

TIMEOUT = httpx.Timeout(10.0, read=900.0)  # a long prompt on a slow CPU is minutes without a byte


class Wire:
    def __init__(self, at: Address) -> None:
        self._at = at
        secure = at.scheme == "https"
        self.client = httpx.AsyncClient(base_url=at.url, timeout=TIMEOUT, trust_env=False, verify=secure)

    async def aclose(self) -> None:
        await self.client.aclose()

    @asynccontextmanager
    async def sent(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> AsyncIterator[httpx.Response]:
        """The answer, its body not read yet. Raises EngineError when there is none."""
        request = self.client.build_request(method, path, json=None if body is None else dict(body))
        try:
            response = await self.client.send(request, stream=True)
        except httpx.TransportError as exc:
            raise EngineError(f"Ollama does not answer at {self._at.url} ({exc or type(exc).__name__})") from exc
        try:
            yield response
        finally:
            with anyio.CancelScope(shield=True):
                await response.aclose()

    async def ask(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """POST; the parsed answer. Raises EngineError."""
        try:
            async with self.sent("POST", path, body) as response:
                content = await response.aread()
                if response.is_success:
                    parsed: Mapping[str, Any] = response.json()
                    return parsed
        except (httpx.TransportError, httpx.DecodingError) as exc:
            raise EngineError(f"Ollama broke off its answer to {path} ({exc or type(exc).__name__})") from exc
        except ValueError as exc:
            raise EngineError(f"Ollama answered {path} with something that is not JSON: {exc}") from exc
        raise EngineError(
            f"Ollama refused {path} with {response.status_code}: {content.decode(errors='replace')[:300]}"
        )
