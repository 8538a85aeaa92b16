"""The routes that use a model: generate, chat, embeddings, and the same in OpenAI's shape."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from tests.fakes.ollama import openai
from tests.fakes.ollama.answer import Answer, Chunk, Chunks, Framing, error_body, whole
from tests.fakes.ollama.failures import Refused, bad_request, unknown_model
from tests.fakes.ollama.inference import Ask, Inference
from tests.fakes.ollama.library import Library
from tests.fakes.ollama.models import capabilities, running, stamp
from tests.fakes.ollama.names import InvalidName, parse
from tests.fakes.ollama.options import keep_alive
from tests.fakes.ollama.requests import Complain, body_of, inputs
from tests.fakes.ollama.scheduler import Scheduler


@dataclass(frozen=True)
class Shape:
    """What becomes of Ollama's chunks on their way out."""

    framing: Framing | None = None
    whole: Callable[[Chunk], Chunk] = dict
    complain: Complain = error_body


OLLAMA = Shape()


class Talk:
    def __init__(self, library: Library, inference: Inference, scheduler: Scheduler) -> None:
        self._library = library
        self._inference = inference
        self._scheduler = scheduler

    async def ps(self, _request: Request) -> Response:
        loaded = sorted(self._scheduler.loaded.values(), key=lambda runner: runner.expires_at, reverse=True)
        return whole({"models": [running(runner) for runner in loaded]})

    async def generate(self, request: Request) -> ASGIApp:
        return self._generate(await body_of(request), OLLAMA)

    async def chat(self, request: Request) -> ASGIApp:
        return self._chat(await body_of(request), OLLAMA)

    async def embed(self, request: Request) -> ASGIApp:
        body = await body_of(request)
        texts = inputs(body.get("input"))
        ask = self._ask(body, unqualified=unknown_model(str(body.get("model", ""))))

        async def answer() -> Chunks:
            vectors, count, durations = await self._inference.embed(ask, texts)
            numbers = {**durations, "prompt_eval_count": count} if texts else {}
            yield {"model": ask.given, "embeddings": vectors, **numbers}

        return Answer(answer(), join=last)

    async def embeddings(self, request: Request) -> ASGIApp:
        body = await body_of(request)
        ask = self._ask(body, unqualified=bad_request("model is required"))

        async def answer() -> Chunks:
            vectors, _, _ = await self._inference.embed(ask, [str(body["prompt"])] if body.get("prompt") else [])
            yield {"embedding": vectors[0] if vectors else []}

        return Answer(answer(), join=last)

    async def openai_chat(self, request: Request) -> ASGIApp:
        body = await body_of(request)
        made = openai.chat_request(body) | {"stream": bool(body.get("stream"))}
        return self._chat(made, Shape(events(body, chat=True), openai.chat_completion, openai.error_body))

    async def openai_completion(self, request: Request) -> ASGIApp:
        body = await body_of(request)
        made = openai.completion_request(body) | {"stream": bool(body.get("stream"))}
        return self._generate(made, Shape(events(body, chat=False), openai.text_completion, openai.error_body))

    async def openai_embeddings(self, request: Request) -> ASGIApp:
        body = await body_of(request)
        if body.get("input") in (None, []):
            raise bad_request("invalid input")
        ask = self._ask(body, unqualified=unknown_model(str(body.get("model", ""))))
        texts = inputs(body["input"]) or [""]

        async def answer() -> Chunks:
            vectors, count, _ = await self._inference.embed(ask, texts)
            yield openai.embedding_list(ask.given, vectors, count, str(body.get("encoding_format", "float")).lower())

        return Answer(answer(), join=last, complain=openai.error_body)

    def _generate(self, body: Mapping[str, Any], shape: Shape) -> ASGIApp:
        ask = self._ask(body, unqualified=unknown_model(str(body.get("model", ""))))
        if not body.get("prompt"):
            return self._load_or_unload(ask, {"response": ""}, shape)
        if body.get("raw") and any(body.get(name) for name in ("template", "system", "context")):
            raise bad_request("raw mode does not support template, system, or context")
        self._check_capabilities(ask, "generate")
        return reply(self._inference.generate(ask), body, shape)

    def _chat(self, body: Mapping[str, Any], shape: Shape) -> ASGIApp:
        ask = self._ask(body, unqualified=bad_request("model is required"))
        if not body.get("messages"):
            return self._load_or_unload(ask, {"message": {"role": "assistant", "content": ""}}, shape)
        self._check_capabilities(ask, "chat")
        return reply(self._inference.chat(ask), body, shape)

    def _load_or_unload(self, ask: Ask, empty: Chunk, shape: Shape) -> ASGIApp:
        """No prompt: only load the model, or with a keep-alive of 0 let it go. One answer, whatever was asked."""
        if ask.keep_alive == 0:
            self._inference.unload(ask)
            return reply(unloaded(ask, empty), {"stream": False}, shape)
        return reply(self._inference.load(ask, empty), {"stream": False}, shape)

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
        return Ask(given, self._library.found(given), body, alive)

    def _check_capabilities(self, ask: Ask, what: str) -> None:
        able = capabilities(ask.model)
        if ask.body.get("think") and "thinking" not in able:
            raise bad_request(f'"{ask.given}" does not support thinking')
        if "completion" not in able:
            raise bad_request(f'"{ask.given}" does not support {what}')
        if ask.tools and "tools" not in able:
            raise bad_request(f"{ask.model.name.full} does not support tools")


def last(chunks: list[Chunk]) -> Chunk:
    return chunks[-1]


def reply(chunks: Chunks, body: Mapping[str, Any], shape: Shape) -> Answer:
    if body.get("stream", True) is False:
        return Answer(chunks, join=lambda found: shape.whole(joined(found)), complain=shape.complain)
    return Answer(chunks, framing=shape.framing, complain=shape.complain)


async def unloaded(ask: Ask, empty: Chunk) -> Chunks:
    yield {"model": ask.given, "created_at": stamp(), **empty, "done": True, "done_reason": "unload"}


def events(body: Chunk, *, chat: bool) -> openai.Events:
    return openai.Events(chat=chat, usage=bool((body.get("stream_options") or {}).get("include_usage")))


def joined(chunks: list[Chunk]) -> Chunk:
    """All chunks of a reply as one: texts and log-probabilities put together, the numbers of the last."""
    made = dict(chunks[-1])
    if "message" in made:
        messages = [chunk["message"] for chunk in chunks]
        texts = {"content": joined_texts(messages, "content"), "thinking": joined_texts(messages, "thinking")}
        calls = [call for message in messages for call in message.get("tool_calls", [])]
        made["message"] = {"role": "assistant", "content": texts["content"]}
        made["message"] |= {"thinking": texts["thinking"]} if texts["thinking"] else {}
        made["message"] |= {"tool_calls": calls} if calls else {}
    else:
        made["response"] = joined_texts(chunks, "response")
        if thinking := joined_texts(chunks, "thinking"):
            made["thinking"] = thinking
    if logprobs := [item for chunk in chunks for item in chunk.get("logprobs", [])]:
        made["logprobs"] = logprobs
    return made


def joined_texts(parts: list[Chunk], name: str) -> str:
    return "".join(part.get(name, "") for part in parts)
