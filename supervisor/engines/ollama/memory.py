"""What the server holds in memory: loading a model, reading a prompt ahead, and giving the memory back."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import anyio
import httpx
import ollama

from supervisor.engines.ollama.likelihood import Ask
from supervisor.errors import EngineError

UNLOAD_WITHIN = 30.0  # seconds
LOOK_EVERY = 0.1  # seconds; nothing announces an unload


async def preload(ask: Ask, tag: str) -> None:
    """Return once the model is in memory. Raises EngineError.

    Not by the official client, which cannot say how the runner is to be launched.
    """
    try:
        await ask("/api/generate", {"model": tag, "stream": False})
    except EngineError as exc:
        raise EngineError(f"Ollama cannot load {tag}: {exc}") from exc


async def unload(client: ollama.AsyncClient, known: Iterable[str], ours: Callable[[str], bool]) -> None:
    """Return once none of our models is in memory; running requests end first. Raises EngineError.

    ``known``: tags to name besides those that /api/ps shows. A tag that is gone cannot be named, but another one with
    the same weights ends its runner too.
    """
    left: list[str] = []
    with anyio.move_on_after(UNLOAD_WITHIN):
        while left := await loaded(client, ours):
            for tag in dict.fromkeys([*left, *known]):
                await _let_go(client, tag)
            await anyio.sleep(LOOK_EVERY)
        return
    raise EngineError(
        f"Ollama still holds {', '.join(left) or 'a model'} {UNLOAD_WITHIN:.0f} s after it was asked to let go; "
        "does another program use it?"
    )


async def loaded(client: ollama.AsyncClient, ours: Callable[[str], bool]) -> list[str]:
    """Our models in memory. Raises EngineError."""
    return [one.model for one in await _running(client, ours) if one.model]


@dataclass(frozen=True)
class Held:
    """Bytes of the machine's memory and of the GPUs'."""

    ram: int
    vram: int


async def held(client: ollama.AsyncClient, ours: Callable[[str], bool]) -> Held:
    """What our models take just now. Raises EngineError."""
    running = await _running(client, ours)
    vram = sum(one.size_vram or 0 for one in running)
    return Held(ram=max(0, sum(one.size or 0 for one in running) - vram), vram=vram)


async def _running(client: ollama.AsyncClient, ours: Callable[[str], bool]) -> list[ollama.ProcessResponse.Model]:
    try:
        return [one for one in (await client.ps()).models if one.model and ours(one.model)]
    except (ollama.ResponseError, httpx.TransportError, ConnectionError) as exc:
        raise EngineError(f"Ollama does not say what it holds in memory: {exc or type(exc).__name__}") from exc


async def _let_go(client: ollama.AsyncClient, tag: str) -> None:
    try:
        await client.generate(model=tag, keep_alive=0)
    except ollama.ResponseError as exc:
        if exc.status_code != httpx.codes.NOT_FOUND:
            raise EngineError(f"Ollama does not let go of {tag}: {exc.error}") from exc
    except (httpx.TransportError, ConnectionError) as exc:
        raise EngineError(f"Ollama was gone while it let go of {tag} ({exc or type(exc).__name__})") from exc
