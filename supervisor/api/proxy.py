"""What OpenAI's clients call: completions, models, and the likelihood of a given reply."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from supervisor.api.body import json_object
from supervisor.api.capture import Asked
from supervisor.api.context import ApiContext
from supervisor.api.relay import Relay
from supervisor.api.warmup import take
from supervisor.engines.engine import Route
from supervisor.errors import RequestError, UnknownModel
from supervisor.gateway.bookkeeping import PROMPT_HEADER, for_the_model

OURS = "clawlama"  # the field of a body that is for us and not for the model


class ScoreRequest(BaseModel, frozen=True, extra="forbid"):
    """How likely is ``completion`` as the reply to ``messages``?"""

    model: str | None = None
    messages: list[dict[str, Any]] = Field(min_length=1)
    completion: str = Field(min_length=1)


def proxy_routes(context: ApiContext) -> APIRouter:
    router = APIRouter(tags=["model"])

    @router.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        """A chat reply, streamed or whole; all fields go to the model's server as they are."""
        body = as_the_model_reads(await json_object(request), request)
        messages = chat_messages(body)
        if context.warm_up.is_meant(messages):
            return await take(context.warm_up, context.engine, "/v1/chat/completions", body)
        return relay(context, request, "/v1/chat/completions", body, messages)

    @router.post("/v1/completions")
    async def complete(request: Request) -> Response:
        """A bare continuation of a prompt, streamed or whole."""
        body = await json_object(request)
        return relay(context, request, "/v1/completions", body, prompt_messages(body))

    @router.get("/v1/models")
    async def models() -> dict[str, Any]:
        """The names that a request may use."""
        return {"object": "list", "data": [model_card(context, name) for name in context.engine.served.models]}

    @router.get("/v1/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        known = context.engine.served.models
        if name not in known:
            raise UnknownModel(name, known)
        return model_card(context, name)

    @router.post("/v1/score")
    async def score(request: ScoreRequest) -> dict[str, Any]:
        """Log-probabilities (nats) of a reply, token by token, the closing token included."""
        model = request.model or context.engine.served.adapter
        result = await context.engine.score(request.messages, request.completion, model=model)
        return {
            "model": model,
            "tokens": result.tokens,
            "token_ids": result.token_ids,
            "logprobs": result.logprobs,
            "prompt_tokens": result.prompt_tokens,
            "completion_tokens": len(result.logprobs),
            "logprob_sum": sum(result.logprobs),
        }

    return router


def relay(
    context: ApiContext, request: Request, route: Route, body: dict[str, Any], messages: list[dict[str, Any]]
) -> Relay:
    wanted = {name: value for name, value in body.items() if name != OURS}
    if not wanted.get("model"):
        wanted["model"] = context.engine.served.adapter
    strip = strip_thinking(body.get(OURS, {}), request.headers.get("x-clawlama-strip-thinking", ""))
    asked = Asked(route, body, messages)
    return Relay(context.engine, context.journal, context.turns, context.metrics, asked, wanted, strip_thinking=strip)


def as_the_model_reads(body: dict[str, Any], request: Request) -> dict[str, Any]:
    """A body that OpenClaw sent, without what it writes for itself; anybody else's as it is."""
    reading = request.headers.get(PROMPT_HEADER)
    if reading is None:
        return body
    return {**body, "messages": for_the_model(chat_messages(body), "lean" if reading == "lean" else "full")}


def strip_thinking(ours: object, header: str) -> bool:
    """What the body's own field or the header asks for. RequestError for a field we do not know."""
    if not isinstance(ours, Mapping) or not set(ours) <= {"strip_thinking"}:
        raise RequestError(400, f'the field "{OURS}" takes {{"strip_thinking": true}} and nothing else')
    return bool(ours.get("strip_thinking")) or header.strip().lower() in ("1", "true", "yes")


def chat_messages(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise RequestError(400, 'the body has no "messages"; send a list such as [{"role": "user", "content": "Hi"}]')
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise RequestError(400, f'messages[{index}] must be an object with a "role"')
    return messages


def prompt_messages(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A bare prompt as the journal keeps it: one user message, with the prompt as it came."""
    prompt = body.get("prompt")
    if not isinstance(prompt, str | list) or not prompt:
        raise RequestError(400, 'the body has no "prompt"; send a text')
    return [{"role": "user", "content": prompt}]


def model_card(context: ApiContext, name: str) -> dict[str, Any]:
    served = context.engine.served
    tuned = name != served.base
    return {
        "id": name,
        "object": "model",
        "created": 0,
        "owned_by": "clawlama",
        "root": served.base,
        "parent": served.base if tuned else None,
        "version": served.version if tuned else None,
    }
