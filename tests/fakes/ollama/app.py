"""The routes of an Ollama server, and one of ours: ``/_standin/quirks``."""

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from tests.fakes.ollama import openai
from tests.fakes.ollama.answer import Answer, Chunk, Chunks, Framing, error_body, whole
from tests.fakes.ollama.create import Creator
from tests.fakes.ollama.failures import Refused, bad_request, unknown_model
from tests.fakes.ollama.host_check import HostCheck
from tests.fakes.ollama.inference import Ask, Inference
from tests.fakes.ollama.models import capabilities, listed, running, shown, stamp
from tests.fakes.ollama.names import InvalidName, Name, parse
from tests.fakes.ollama.options import keep_alive
from tests.fakes.ollama.pull import Puller
from tests.fakes.ollama.quirks import Switchboard
from tests.fakes.ollama.scheduler import Scheduler
from tests.fakes.ollama.settings import Environment
from tests.fakes.ollama.store import Store, Stored
from tests.fakes.ollama.uploads import Uploads

Endpoint = Callable[[Request], Awaitable[ASGIApp]]
Complain = Callable[[int, str], Chunk]


class Server:
    def __init__(self, environment: Environment, board: Switchboard) -> None:
        self.environment = environment
        self.board = board
        self.store = Store(environment.models, board)
        self.scheduler = Scheduler(environment, board)
        self.inference = Inference(self.scheduler, environment)
        self.uploads = Uploads(self.store)
        self.puller: Puller
        self.creator: Creator

    def app(self) -> ASGIApp:
        if not self.environment.no_prune:
            self.store.prune()
        app = Starlette(
            routes=self._routes(),
            lifespan=self._lifespan,
            exception_handlers={404: plain, 405: plain},
        )
        app.router.redirect_slashes = False
        return HostCheck(app, self.environment.host)

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncGenerator[None, None]:
        async with self.scheduler.running(), anyio.create_task_group() as tasks:
            self.puller = Puller(self.store, self.environment, self.board, tasks)
            self.creator = Creator(self.store, self.puller, self.board)
            yield
            tasks.cancel_scope.cancel()
            await self.puller.aclose()

    def _routes(self) -> list[Route]:
        table: list[tuple[str, str, Endpoint]] = [
            ("GET", "/", self.alive),
            ("GET", "/api/version", self.version),
            ("GET", "/api/tags", self.tags),
            ("GET", "/api/ps", self.ps),
            ("POST", "/api/show", self.show),
            ("POST", "/api/pull", self.pull),
            ("POST", "/api/push", self.push),
            ("POST", "/api/create", self.create),
            ("POST", "/api/copy", self.copy),
            ("DELETE", "/api/delete", self.delete),
            ("HEAD", "/api/blobs/{digest}", self.uploads.head),
            ("POST", "/api/blobs/{digest}", self.uploads.post),
            ("POST", "/api/generate", self.generate),
            ("POST", "/api/chat", self.chat),
            ("POST", "/api/embed", self.embed),
            ("POST", "/api/embeddings", self.embeddings),
            ("GET", "/_standin/quirks", self.quirks),
            ("POST", "/_standin/quirks", self.change_quirks),
        ]
        compatible: list[tuple[str, str, Endpoint]] = [
            ("GET", "/v1/models", self.openai_models),
            ("GET", "/v1/models/{model:path}", self.openai_model),
            ("POST", "/v1/chat/completions", self.openai_chat),
            ("POST", "/v1/completions", self.openai_completion),
            ("POST", "/v1/embeddings", self.openai_embeddings),
        ]
        ours = [Route(path, refusing(found, error_body), methods=[method]) for method, path, found in table]
        theirs = [
            Route(path, refusing(found, openai.error_body), methods=[method]) for method, path, found in compatible
        ]
        return [*ours, *theirs]

    async def alive(self, _request: Request) -> Response:
        return PlainTextResponse("Ollama is running")

    async def version(self, _request: Request) -> Response:
        return whole({"version": self.board.now.version})

    async def tags(self, _request: Request) -> Response:
        return whole({"models": [listed(model) for model in self.store.all()]})

    async def ps(self, _request: Request) -> Response:
        loaded = sorted(self.scheduler.loaded.values(), key=lambda runner: runner.expires_at, reverse=True)
        return whole({"models": [running(runner) for runner in loaded]})

    async def show(self, request: Request) -> Response:
        body = await body_of(request)
        given = named(body)
        if not given:
            raise bad_request("model is required")
        try:
            model = self._stored(given)
        except InvalidName as exc:
            raise bad_request("unqualified name") from exc
        return whole(shown(model, verbose=bool(body.get("verbose"))))

    async def pull(self, request: Request) -> ASGIApp:
        body = await body_of(request)
        return progress(self.puller.pull(self._name(named(body), "invalid model name")), body)

    async def push(self, request: Request) -> ASGIApp:
        body = await body_of(request)
        if not named(body):
            raise bad_request("model is required")

        async def refuse() -> Chunks:
            yield {"status": "retrieving manifest"}
            raise Refused(500, "you must be signed in to push")

        return progress(refuse(), body)

    async def create(self, request: Request) -> ASGIApp:
        body = await body_of(request)
        return progress(self.creator.create(self.creator.check(body), body), body)

    async def copy(self, request: Request) -> Response:
        body = await body_of(request)
        given = str(body.get("source", ""))
        source = self._name(given, f'source "{given}" is invalid')
        target = self._name(str(body.get("destination", "")), f'destination "{body.get("destination", "")}" is invalid')
        try:
            await self.store.copy(source, target)
        except FileNotFoundError as exc:
            raise Refused(404, f'model "{given}" not found') from exc
        return Response()

    async def delete(self, request: Request) -> Response:
        given = named(await body_of(request))
        name = self._name(given, f'name "{given}" is invalid')
        try:
            self.store.remove(name)
        except FileNotFoundError as exc:
            raise unknown_model(given) from exc
        return Response()

    async def generate(self, request: Request) -> ASGIApp:
        return self._generate(await body_of(request))

    def _generate(
        self, body: Mapping[str, Any], framing: Framing | None = None, shape: Callable[[Chunk], Chunk] | None = None
    ) -> ASGIApp:
        ask = self._ask(body, unqualified=unknown_model(str(body.get("model", ""))))
        empty = {"response": ""}
        if not body.get("prompt"):
            return self._load_or_unload(ask, empty, framing, shape)
        if body.get("raw") and any(body.get(name) for name in ("template", "system", "context")):
            raise bad_request("raw mode does not support template, system, or context")
        self._check_capabilities(ask, "generate")
        return reply(self.inference.generate(ask), "response", body, framing, shape)

    async def chat(self, request: Request) -> ASGIApp:
        return self._chat(await body_of(request))

    def _chat(
        self, body: Mapping[str, Any], framing: Framing | None = None, shape: Callable[[Chunk], Chunk] | None = None
    ) -> ASGIApp:
        ask = self._ask(body, unqualified=bad_request("model is required"))
        if not body.get("messages"):
            return self._load_or_unload(ask, {"message": {"role": "assistant", "content": ""}}, framing, shape)
        self._check_capabilities(ask, "chat")
        return reply(self.inference.chat(ask), "message", body, framing, shape)

    def _load_or_unload(
        self, ask: Ask, empty: Chunk, framing: Framing | None, shape: Callable[[Chunk], Chunk] | None
    ) -> ASGIApp:
        """No prompt: only load the model, or with a keep-alive of 0 let it go."""
        if ask.keep_alive == 0:
            self.inference.unload(ask)
            return reply(unloaded(ask, empty), next(iter(empty)), {"stream": False}, framing, shape)
        return reply(self.inference.load(ask, empty), next(iter(empty)), {"stream": False}, framing, shape)

    async def embed(self, request: Request) -> ASGIApp:
        body = await body_of(request)
        texts = inputs(body.get("input"))
        ask = self._ask(body, unqualified=unknown_model(str(body.get("model", ""))))

        async def answer() -> Chunks:
            vectors, count, durations = await self.inference.embed(ask, texts)
            yield {"model": ask.given, "embeddings": vectors, **durations, "prompt_eval_count": count}

        return Answer(answer(), join=lambda chunks: chunks[-1])

    async def embeddings(self, request: Request) -> ASGIApp:
        body = await body_of(request)
        ask = self._ask(body, unqualified=bad_request("model is required"))

        async def answer() -> Chunks:
            texts = [str(body["prompt"])] if body.get("prompt") else []
            vectors, _, _ = await self.inference.embed(ask, texts)
            yield {"embedding": vectors[0] if vectors else []}

        return Answer(answer(), join=lambda chunks: chunks[-1])

    async def openai_models(self, _request: Request) -> Response:
        models = [openai.model_entry(m.name.shortest, m.name.namespace, m.modified) for m in self.store.all()]
        return whole({"object": "list", "data": models})

    async def openai_model(self, request: Request) -> Response:
        given = request.path_params["model"]
        model = self._found(given)
        return whole(openai.model_entry(given, model.name.namespace, model.modified))

    async def openai_chat(self, request: Request) -> ASGIApp:
        body = await body_of(request)
        made = openai.chat_request(body)
        made["stream"] = bool(body.get("stream"))
        return self._chat(made, events(body, chat=True), openai.chat_completion)

    async def openai_completion(self, request: Request) -> ASGIApp:
        body = await body_of(request)
        made = openai.completion_request(body)
        made["stream"] = bool(body.get("stream"))
        return self._generate(made, events(body, chat=False), openai.text_completion)

    async def openai_embeddings(self, request: Request) -> ASGIApp:
        body = await body_of(request)
        if body.get("input") in (None, []):
            raise bad_request("invalid input")
        ask = self._ask(body, unqualified=unknown_model(str(body.get("model", ""))))
        texts = inputs(body["input"]) or [""]

        async def answer() -> Chunks:
            vectors, count, _ = await self.inference.embed(ask, texts)
            yield openai.embedding_list(ask.given, vectors, count, str(body.get("encoding_format", "float")).lower())

        return Answer(answer(), join=lambda chunks: chunks[-1], complain=openai.error_body)

    async def quirks(self, _request: Request) -> Response:
        return whole(self.board.now.model_dump())

    async def change_quirks(self, request: Request) -> Response:
        try:
            return whole(self.board.change(**await body_of(request)).model_dump())
        except ValidationError as exc:
            raise bad_request(str(exc)) from exc

    def _name(self, given: str, complaint: str) -> Name:
        try:
            return self.store.existing(given)
        except InvalidName as exc:
            raise bad_request(complaint) from exc

    def _stored(self, given: str) -> Stored:
        """Raises InvalidName, Refused."""
        try:
            return self.store.read(self.store.existing(given))
        except FileNotFoundError as exc:
            raise unknown_model(given) from exc

    def _found(self, given: str) -> Stored:
        try:
            return self._stored(given)
        except InvalidName as exc:
            raise unknown_model(given) from exc

    def _ask(self, body: Mapping[str, Any], *, unqualified: Refused) -> Ask:
        top = body.get("top_logprobs") or 0
        if not isinstance(top, int) or not 0 <= top <= 20:
            raise bad_request("top_logprobs must be between 0 and 20")
        given = str(body.get("model") or "")
        alive = keep_alive(body.get("keep_alive"))
        try:
            parse(given)
        except InvalidName as exc:
            raise unqualified from exc
        return Ask(given, self._found(given), body, alive)

    def _check_capabilities(self, ask: Ask, what: str) -> None:
        able = capabilities(ask.model)
        if ask.body.get("think") and "thinking" not in able:
            raise bad_request(f'"{ask.given}" does not support thinking')
        if "completion" not in able:
            raise bad_request(f'"{ask.given}" does not support {what}')
        if ask.tools and "tools" not in able:
            raise bad_request(f"{ask.model.name.full} does not support tools")


def refusing(endpoint: Endpoint, complain: Complain) -> Callable[[Request], Awaitable[Any]]:
    """What is refused before an answer began."""

    async def handle(request: Request) -> Any:
        try:
            return await endpoint(request)
        except Refused as refused:
            return whole(complain(refused.status, refused.message), refused.status)
        except ClientDisconnect:
            return Response(status_code=499)

    return handle


def progress(chunks: Chunks, body: Mapping[str, Any]) -> Answer:
    return Answer(chunks, join=(lambda found: found[-1]) if body.get("stream") is False else None)


def reply(
    chunks: Chunks,
    content: str,
    body: Mapping[str, Any],
    framing: Framing | None,
    shape: Callable[[Chunk], Chunk] | None,
) -> Answer:
    """``shape`` makes OpenAI's object of a whole reply."""
    complain = openai.error_body if shape else error_body
    if body.get("stream", True) is False:
        return Answer(chunks, join=lambda found: (shape or dict)(joined(found, content)), complain=complain)
    return Answer(chunks, framing=framing, complain=complain)


def joined(chunks: list[Chunk], content: str) -> Chunk:
    """All chunks of a reply as one: texts and log-probabilities put together, the numbers of the last."""
    whole_reply = dict(chunks[-1])
    texts = [chunk[content] for chunk in chunks]
    if content == "message":
        message: Chunk = {"role": "assistant", "content": "".join(text["content"] for text in texts)}
        thinking = "".join(text.get("thinking", "") for text in texts)
        calls = [call for text in texts for call in text.get("tool_calls", [])]
        message |= ({"thinking": thinking} if thinking else {}) | ({"tool_calls": calls} if calls else {})
        whole_reply["message"] = message
    else:
        whole_reply["response"] = "".join(texts)
        if thinking := "".join(chunk.get("thinking", "") for chunk in chunks):
            whole_reply["thinking"] = thinking
    if logprobs := [item for chunk in chunks for item in chunk.get("logprobs", [])]:
        whole_reply["logprobs"] = logprobs
    return whole_reply


async def unloaded(ask: Ask, empty: Chunk) -> Chunks:
    yield {"model": ask.given, "created_at": stamp(), **empty, "done": True, "done_reason": "unload"}


def events(body: Chunk, *, chat: bool) -> openai.Events:
    return openai.Events(chat=chat, usage=bool((body.get("stream_options") or {}).get("include_usage")))


def named(body: Mapping[str, Any]) -> str:
    return str(body.get("model") or body.get("name") or "")


def inputs(given: Any) -> list[str]:
    if isinstance(given, str):
        return [given] if given else []
    if given is None or (isinstance(given, list) and all(isinstance(text, str) for text in given)):
        return list(given or [])
    raise bad_request("invalid input type")


async def body_of(request: Request) -> Chunk:
    """Raises Refused in the words of Go's decoder."""
    content = await request.body()
    if not content.strip():
        raise bad_request("missing request body")
    try:
        body = json.loads(content)
    except json.JSONDecodeError as exc:
        if exc.pos >= len(content.strip()):
            raise bad_request("unexpected EOF") from exc
        raise bad_request(f"invalid character {chr(content[exc.pos])!r} looking for beginning of value") from exc
    if not isinstance(body, dict):
        raise bad_request("json: cannot unmarshal array into Go value")
    return body


async def plain(_request: Request, exc: Exception) -> Response:
    status = exc.status_code if isinstance(exc, HTTPException) else 500
    text = {404: "404 page not found", 405: "405 method not allowed"}.get(status, str(exc))
    return PlainTextResponse(text, status)
