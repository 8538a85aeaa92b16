"""The Ollama server itself: is one there, which version, and how we start one of our own."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import anyio
import httpx

from supervisor.engines.ollama.setup import Address, OllamaSetup, Tuning
from supervisor.errors import EngineError
from supervisor.services.output import Output
from supervisor.services.probe import http_answers
from supervisor.services.process import Command
from supervisor.services.readiness import Liveness
from supervisor.services.service import Service

GLANCE = 2.0  # seconds for a server that is there to say so
START_TIMEOUT = 60.0  # seconds; it looks for GPUs first
GRACE = 5.0  # seconds for it to end its runners


def find_ollama(path: str | None) -> Path | None:
    """The executable on this search path (None: the usual one)."""
    found = shutil.which("ollama", path=path)
    return Path(found).absolute() if found else None


async def version_of(client: httpx.AsyncClient, at: Address) -> str | None:
    """What the server calls its version; None when nothing answers. EngineError when that is no Ollama."""
    try:
        with anyio.fail_after(GLANCE):
            answer = await client.get(at.url + "/api/version")
        return str(answer.raise_for_status().json()["version"])
    except (TimeoutError, httpx.TransportError):
        return None
    except (httpx.HTTPStatusError, json.JSONDecodeError, KeyError, TypeError) as exc:
        raise EngineError(
            f"what answers at {at.url} is not Ollama ({type(exc).__name__}: {exc}); "
            "set OLLAMA_HOST to the right address, or free that port"
        ) from exc


def own_service(setup: OllamaSetup, tuning: Callable[[], Tuning | None], output: Output) -> Service:
    """A server that we start and keep up. ``tuning`` is asked at every start, and None before the model is known."""
    return Service(
        "engine",
        lambda: serve_command(setup, tuning()),
        answers := http_answers(setup.at.url + "/api/version"),
        output,
        alive=Liveness(answers, every=5.0, within=5.0, misses=12),
        start_timeout=START_TIMEOUT,
        grace=GRACE,
        owner=setup.owner,
    )


def serve_command(setup: OllamaSetup, tuning: Tuning | None) -> Command:
    setup.own_models.mkdir(parents=True, exist_ok=True)
    ours = {
        "OLLAMA_HOST": setup.at.netloc,
        "OLLAMA_MODELS": str(setup.own_models),
        "OLLAMA_KEEP_ALIVE": setup.keep_alive,
        "OLLAMA_NUM_PARALLEL": str(tuning.parallel if tuning else setup.parallel),
        "OLLAMA_MAX_LOADED_MODELS": str(setup.max_loaded),
        "OLLAMA_NOPRUNE": "1",  # a start would throw away what an interrupted pull has got
        "OLLAMA_NO_CLOUD": "1",
    }
    if tuning:
        ours["OLLAMA_CONTEXT_LENGTH"] = str(tuning.context)
        if tuning.flash_attention is not None:
            ours["OLLAMA_FLASH_ATTENTION"] = str(int(tuning.flash_attention))
        if tuning.kv_type is not None:
            ours["OLLAMA_KV_CACHE_TYPE"] = tuning.kv_type
    return Command(argv=(str(setup.better() or setup.executable), "serve"), env={**setup.environment, **ours})
