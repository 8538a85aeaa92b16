"""An Ollama server: its routes, and one of ours, ``/_standin/quirks``."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from tests.fakes.ollama import openai
from tests.fakes.ollama.answer import error_body, whole
from tests.fakes.ollama.create import Creator
from tests.fakes.ollama.failures import bad_request
from tests.fakes.ollama.host_check import HostCheck
from tests.fakes.ollama.inference import Inference
from tests.fakes.ollama.library import Library
from tests.fakes.ollama.pull import Puller
from tests.fakes.ollama.quirks import Switchboard
from tests.fakes.ollama.requests import Endpoint, body_of, refusing
from tests.fakes.ollama.scheduler import Scheduler
from tests.fakes.ollama.settings import Environment
from tests.fakes.ollama.store import Store
from tests.fakes.ollama.talk import Talk
from tests.fakes.ollama.uploads import Uploads


def ollama_app(environment: Environment, board: Switchboard) -> ASGIApp:
    """Prunes the store, as every start of Ollama does."""
    store = Store(environment.models, board)
    if not environment.no_prune:
        store.prune()
    puller = Puller(store, environment, board)
    scheduler = Scheduler(environment, board)
    library = Library(store, puller, Creator(store, puller, board))
    talk = Talk(library, Inference(scheduler, environment), scheduler)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncGenerator[None, None]:
        async with scheduler.running(), puller.running():
            yield

    app = Starlette(
        routes=routes(board, library, talk, Uploads(store)),
        lifespan=lifespan,
        exception_handlers={404: plain, 405: plain},
    )
    app.router.redirect_slashes = False
    return HostCheck(app, environment.host)


def routes(board: Switchboard, library: Library, talk: Talk, uploads: Uploads) -> list[Route]:
    async def alive(_request: Request) -> Response:
        return PlainTextResponse("Ollama is running")

    async def version(_request: Request) -> Response:
        return whole({"version": board.now.version})

    async def quirks(_request: Request) -> Response:
        return whole(board.now.model_dump())

    async def change_quirks(request: Request) -> Response:
        try:
            return whole(board.change(**await body_of(request)).model_dump())
        except ValidationError as exc:
            raise bad_request(str(exc)) from exc

    native: list[tuple[str, str, Endpoint]] = [
        ("GET", "/", alive),
        ("GET", "/api/version", version),
        ("GET", "/api/tags", library.tags),
        ("POST", "/api/show", library.show),
        ("POST", "/api/pull", library.pull),
        ("POST", "/api/push", library.push),
        ("POST", "/api/create", library.create),
        ("POST", "/api/copy", library.copy),
        ("DELETE", "/api/delete", library.delete),
        ("HEAD", "/api/blobs/{digest}", uploads.head),
        ("POST", "/api/blobs/{digest}", uploads.post),
        ("GET", "/api/ps", talk.ps),
        ("POST", "/api/generate", talk.generate),
        ("POST", "/api/chat", talk.chat),
        ("POST", "/api/embed", talk.embed),
        ("POST", "/api/embeddings", talk.embeddings),
        ("GET", "/_standin/quirks", quirks),
        ("POST", "/_standin/quirks", change_quirks),
    ]
    compatible: list[tuple[str, str, Endpoint]] = [
        ("GET", "/v1/models", library.openai_models),
        ("GET", "/v1/models/{model:path}", library.openai_model),
        ("POST", "/v1/chat/completions", talk.openai_chat),
        ("POST", "/v1/completions", talk.openai_completion),
        ("POST", "/v1/embeddings", talk.openai_embeddings),
    ]
    tables = [(row, error_body) for row in native] + [(row, openai.error_body) for row in compatible]
    return [
        Route(path, refusing(endpoint, complain), methods=[method]) for (method, path, endpoint), complain in tables
    ]


async def plain(_request: Request, exc: Exception) -> Response:
    status = exc.status_code if isinstance(exc, HTTPException) else 500
    text = {404: "404 page not found", 405: "405 method not allowed"}.get(status, str(exc))
    return PlainTextResponse(text, status)
