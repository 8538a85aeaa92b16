"""One completion of a prompt by a loaded model, in Ollama's chunks: text, raw log-probabilities, timings in ns."""

import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.fakes.ollama.failures import Refused
from tests.fakes.ollama.options import sampling
from tests.fakes.ollama.scheduler import Runner

MILLISECOND = 1_000_000  # ns
TOO_LONG = (
    "the prompt is longer than the context length currently available to the model; shorten the prompt, adjust the "
    "context length in settings, or use a model with a longer context length"
)


@dataclass(frozen=True)
class Wish:
    """What a request wants beyond its prompt. ``top`` counts alternatives per token, 0..20."""

    options: dict[str, Any]
    output: Any = None  # "json", a JSON schema, or nothing
    logprobs: bool = False
    top: int = 0
    truncate: bool = True


@dataclass
class Piece:
    """Some text, or with ``done`` the reason of the end and the numbers."""

    text: str = ""
    logprobs: list[dict[str, Any]] = field(default_factory=list)
    done: str = ""
    metrics: dict[str, int] = field(default_factory=dict)


async def tokens_of(runner: Runner, text: str) -> list[int]:
    answer = await runner.child.ask("/tokenize", {"content": text, "add_special": True, "parse_special": True})
    return [int(token) for token in answer["tokens"]]


async def complete(runner: Runner, prompt: str, wish: Wish) -> AsyncGenerator[Piece, None]:
    """Raises Refused, also in the middle."""
    body = {
        "prompt": await fitted(runner, prompt, wish),
        "stream": True,
        "n_probs": max(1, wish.top) if wish.logprobs else 0,
        **sampling(wish.options),
        **constraint(wish.output),
    }
    try:
        async with runner.child.client.stream("POST", "/completion", json=body) as response:
            if not response.is_success:
                await response.aread()
                raise Refused(response.status_code, response.text.strip())  # llama.cpp's own JSON as the message
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    yield piece(json.loads(line.removeprefix("data: ")), wish)
                elif line.startswith("error: "):
                    raise Refused(500, line.removeprefix("error: "))
    except httpx.TransportError as exc:
        raise Refused(500, f"llama runner process has terminated: {exc or type(exc).__name__}") from exc


async def fitted(runner: Runner, prompt: str, wish: Wish) -> str | list[int]:
    """Too long a prompt loses its middle: the first ``num_keep`` tokens stay, and of the rest the last half context."""
    context = runner.options.context
    tokens = await tokens_of(runner, prompt)
    if len(tokens) <= context - 1 or not wish.truncate:
        return prompt
    if not runner.options.shift:
        raise Refused(400, TOO_LONG)
    wanted = wish.options["num_keep"]
    keep = min(len(tokens) if wanted < 0 else wanted, context - 1)
    room = context - max((context - keep) // 2, 1)
    return tokens[:keep] + tokens[len(tokens) - room + keep :]


def constraint(output: Any) -> dict[str, Any]:
    if output in (None, ""):
        return {}
    if isinstance(output, dict):
        return {"json_schema": output}
    if output != "json":
        raise Refused(500, f'invalid format: {json.dumps(output)}; expected "json" or a valid JSON Schema object')
    return {"json_schema": {"type": "object"}}


def piece(chunk: dict[str, Any], wish: Wish) -> Piece:
    if "error" in chunk:
        raise Refused(500, str(chunk["error"].get("message", chunk["error"])))
    found = Piece(chunk["content"])
    if wish.logprobs and found.text and not chunk["stop"]:  # so nothing is told of the token that ends a reply
        found.logprobs = [logprob(item, wish.top) for item in chunk.get("completion_probabilities", [])]
    if chunk["stop"]:
        found.done = "length" if chunk["stop_type"] == "limit" else "stop"
        timings = chunk["timings"]
        found.metrics = {
            "prompt_eval_count": chunk["tokens_evaluated"],
            "prompt_eval_duration": int(timings["prompt_ms"] * MILLISECOND),
            "eval_count": chunk["tokens_predicted"],
            "eval_duration": int(timings["predicted_ms"] * MILLISECOND),
        }
    return found


def logprob(item: dict[str, Any], top: int) -> dict[str, Any]:
    """Text, its bytes and value. No token ids; what of a character is cut off, or special, has no text and no bytes."""
    shown = {"token": item["token"], "logprob": item["logprob"]}
    if item["token"]:
        shown["bytes"] = list(item["token"].encode())
    if top:
        shown["top_logprobs"] = [logprob(other, 0) for other in item["top_logprobs"][:top]]
    return shown
