"""/api/generate, /api/chat and the embeddings: from a checked request to chunks in Ollama's form.

Chats are rendered by llama.cpp with the template inside the GGUF: the manifest's Go template is kept and shown, and
otherwise counts only for what it says the model can do. Images are accepted and not looked at.
"""

import json
import math
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.fakes.ollama.answer import Chunk, Chunks
from tests.fakes.ollama.completion import Piece, Wish, complete, tokens_of
from tests.fakes.ollama.failures import Refused, bad_request
from tests.fakes.ollama.models import capabilities, header_of, stamp
from tests.fakes.ollama.options import DEFAULTS, check, runner_options
from tests.fakes.ollama.replies import OPEN, ThinkingParser, ToolParser
from tests.fakes.ollama.scheduler import Runner, Scheduler
from tests.fakes.ollama.settings import Environment
from tests.fakes.ollama.store import Stored

Message = dict[str, Any]


@dataclass(frozen=True)
class Ask:
    """A request, parsed: ``given`` is the model's name as the caller wrote it."""

    given: str
    model: Stored
    body: Mapping[str, Any]
    keep_alive: float | None

    @property
    def think(self) -> bool | None:
        """Whether the reply's thinking is wanted apart; models that think do so unless told otherwise."""
        wanted = self.body.get("think")
        return True if wanted is None and "thinking" in capabilities(self.model) else bool(wanted)

    @property
    def tools(self) -> list[dict[str, Any]]:
        return list(self.body.get("tools") or [])

    def wish(self, options: dict[str, Any]) -> Wish:
        return Wish(
            options=options,
            output=self.body.get("format"),
            logprobs=bool(self.body.get("logprobs")),
            top=int(self.body.get("top_logprobs") or 0),
            truncate=self.body.get("truncate") is not False,
        )


class Inference:
    def __init__(self, scheduler: Scheduler, environment: Environment) -> None:
        self._scheduler = scheduler
        self._environment = environment

    def unload(self, ask: Ask) -> None:
        self._scheduler.expire(ask.model)

    @asynccontextmanager
    async def runner(self, ask: Ask, options: dict[str, Any]) -> AsyncGenerator[Runner, None]:
        wanted = runner_options(
            options,
            server_context=self._environment.context,
            trained_context=header_of(ask.model).trained_context,
            shift=ask.body.get("shift") is not False,
        )
        runner = await self._scheduler.acquire(ask.model, wanted, ask.keep_alive)
        try:
            yield runner
        finally:
            self._scheduler.release(runner)

    def options(self, ask: Ask) -> dict[str, Any]:
        """The request's over the model's over the defaults."""
        return {**DEFAULTS, **check(ask.model.data("params", {})), **check(ask.body.get("options") or {})}

    async def load(self, ask: Ask, empty: Chunk) -> Chunks:
        async with self.runner(ask, self.options(ask)):
            yield {"model": ask.given, "created_at": stamp(), **empty, "done": True, "done_reason": "load"}

    async def generate(self, ask: Ask) -> Chunks:
        started = time.monotonic_ns()
        options = self.options(ask)
        async with self.runner(ask, options) as runner:
            loaded = time.monotonic_ns()
            prompt = str(ask.body["prompt"])
            raw = bool(ask.body.get("raw"))
            if not raw:
                prompt = await self._render(runner, ask, self._generate_messages(ask))
            if ask.body.get("_debug_render_only"):
                yield rendered_only(ask, {"response": ""}, prompt)
                return
            thinking = None if raw else thinking_parser(ask, prompt)
            written = prompt
            async with aclosing(complete(runner, prompt, ask.wish(options))) as pieces:
                async for piece in pieces:
                    written += piece.text
                    thought, text = thinking.add(piece.text, last=bool(piece.done)) if thinking else ("", piece.text)
                    chunk = begin(ask, {"response": text, **({"thinking": thought} if thought else {})}, piece)
                    if piece.done:
                        if not raw:
                            chunk["context"] = await tokens_of(runner, written)
                        chunk |= ending(piece, started, loaded)
                    yield chunk

    async def chat(self, ask: Ask) -> Chunks:
        started = time.monotonic_ns()
        options = self.options(ask)
        async with self.runner(ask, options) as runner:
            loaded = time.monotonic_ns()
            prompt = await self._render(runner, ask, self._chat_messages(ask))
            if ask.body.get("_debug_render_only"):
                yield rendered_only(ask, {"message": {"role": "", "content": ""}}, prompt)
                return
            thinking = thinking_parser(ask, prompt)
            tools = ToolParser([tool["function"]["name"] for tool in ask.tools]) if ask.tools else None
            async with aclosing(complete(runner, prompt, ask.wish(options))) as pieces:
                async for piece in pieces:
                    thought, text = thinking.add(piece.text, last=bool(piece.done)) if thinking else ("", piece.text)
                    message: Message = {"role": "assistant", "content": text}
                    if thought:
                        message["thinking"] = thought
                    if tools:
                        message["content"], calls = tools.add(text)
                        if calls:
                            message["tool_calls"] = calls
                        if piece.done:
                            message["content"] += tools.rest()
                    chunk = begin(ask, {"message": message}, piece)
                    if piece.done:
                        yield chunk | ending(piece, started, loaded)
                    elif len(message) > 2 or message["content"] or piece.logprobs:
                        yield chunk

    async def embed(self, ask: Ask, texts: Sequence[str]) -> tuple[list[list[float]], int, dict[str, int]]:
        """Vectors of length 1, tokens read, durations."""
        started = time.monotonic_ns()
        vectors, count = [], 0
        async with self.runner(ask, self.options(ask)) as runner:
            loaded = time.monotonic_ns()
            for text in texts:
                tokens = await tokens_of(runner, text)
                if len(tokens) > runner.options.context:
                    if ask.body.get("truncate") is False:
                        raise bad_request("the input length exceeds the context length")
                    tokens = tokens[: runner.options.context]
                count += len(tokens)
                answer = await runner.child.ask("/embedding", {"content": tokens})
                vectors.append(unit(answer[0]["embedding"][0], ask.body.get("dimensions") or 0))
        durations = {"total_duration": time.monotonic_ns() - started, "load_duration": loaded - started}
        return vectors, count, durations

    def _generate_messages(self, ask: Ask) -> list[Message]:
        system = ask.body.get("system") or ask.model.text("system")
        before = [] if ask.body.get("context") else ask.model.data("messages", [])
        lead = [{"role": "system", "content": system}] if system else []
        return [*lead, *before, {"role": "user", "content": str(ask.body["prompt"])}]

    def _chat_messages(self, ask: Ask) -> list[Message]:
        asked = list(ask.body["messages"])
        system = ask.model.text("system")
        lead = [{"role": "system", "content": system}] if system and asked[0].get("role") != "system" else []
        return [*lead, *ask.model.data("messages", []), *asked]

    async def _render(self, runner: Runner, ask: Ask, messages: list[Message]) -> str:
        """The prompt; while it is too long the oldest messages are left out, but for system and the last one."""
        messages = [for_template(message) for message in messages]
        while True:
            body: dict[str, Any] = {"messages": messages, "chat_template_kwargs": {"enable_thinking": bool(ask.think)}}
            if ask.tools:
                body["tools"] = ask.tools
            prompt = str((await runner.child.ask("/apply-template", body))["prompt"])
            droppable = [at for at, message in enumerate(messages[:-1]) if message["role"] != "system"]
            if ask.body.get("truncate") is False or not droppable:
                return prompt
            if len(await tokens_of(runner, prompt)) <= runner.options.context:
                return prompt
            del messages[droppable[0]]


def for_template(message: Message) -> Message:
    """Ollama's message in the form in which llama.cpp's templates take it."""
    shaped: Message = {"role": message.get("role", ""), "content": message.get("content") or ""}
    if thinking := message.get("thinking"):
        shaped["reasoning_content"] = thinking
    if calls := message.get("tool_calls"):
        shaped["tool_calls"] = [
            {
                "type": "function",
                "id": call.get("id", f"call_{at}"),
                "function": {
                    "name": call["function"]["name"],
                    "arguments": json.dumps(call["function"].get("arguments", {})),
                },
            }
            for at, call in enumerate(calls)
        ]
    if shaped["role"] == "tool":
        shaped["tool_call_id"] = message.get("tool_call_id") or message.get("tool_name") or "call"
    return shaped


def thinking_parser(ask: Ask, prompt: str) -> ThinkingParser | None:
    if not ask.think or "thinking" not in capabilities(ask.model):
        return None
    return ThinkingParser(inside=prompt.rstrip().endswith(OPEN))


def rendered_only(ask: Ask, empty: Chunk, prompt: str) -> Chunk:
    """What the model would have read; it is not asked."""
    told = {"rendered_template": prompt, "image_count": 0}
    return {"model": ask.given, "created_at": stamp(), **empty, "done": False, "_debug_info": told}


def begin(ask: Ask, content: Chunk, piece: Piece) -> Chunk:
    chunk = {"model": ask.given, "created_at": stamp(), **content, "done": bool(piece.done)}
    if piece.logprobs:
        chunk["logprobs"] = piece.logprobs
    return chunk


def ending(piece: Piece, started: int, loaded: int) -> Chunk:
    durations = {"total_duration": time.monotonic_ns() - started, "load_duration": loaded - started}
    numbers = {name: value for name, value in (durations | piece.metrics).items() if value}
    return {"done_reason": piece.done, **numbers}


def unit(vector: Sequence[float], dimensions: int) -> list[float]:
    if any(not math.isfinite(value) for value in vector):
        raise Refused(400, "embedding contains NaN or Inf values")
    cut = vector[:dimensions] if 0 < dimensions < len(vector) else vector
    length = max(math.sqrt(sum(value * value for value in cut)), 1e-12)
    return [value / length for value in cut]
