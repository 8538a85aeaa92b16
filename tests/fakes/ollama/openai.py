"""/v1: OpenAI's requests turned into Ollama's, and Ollama's chunks into OpenAI's.

Note what it does to sampling: a request without temperature or top_p gets 1.0, whatever the model's own parameters say.
"""

import json
import random
import struct
from base64 import b64encode
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from tests.fakes.ollama.answer import Chunk
from tests.fakes.ollama.failures import bad_request

KINDS = {400: "invalid_request_error", 404: "not_found_error"}
EFFORTS = ("high", "medium", "low", "none")


def error_body(status: int, message: str) -> Chunk:
    return {"error": {"message": message, "type": KINDS.get(status, "api_error"), "param": None, "code": None}}


def chat_request(body: Chunk) -> Chunk:
    """Raises Refused."""
    if not body.get("messages"):
        raise bad_request("[] is too short - 'messages'")
    made: Chunk = {
        "model": body.get("model", ""),
        "messages": [one for message in body["messages"] for one in messages_of(message)],
        "options": sampling(body) | penalties(body),
        "tools": body.get("tools"),
        "logprobs": body.get("logprobs"),
        "top_logprobs": body.get("top_logprobs"),
        "format": output_of(body.get("response_format") or {}),
    }
    effort = (body.get("reasoning") or {}).get("effort") or body.get("reasoning_effort")
    if effort:
        if effort not in EFFORTS:
            raise bad_request(f'invalid reasoning value: \'{effort}\' (must be "high", "medium", "low", or "none")')
        made["think"] = effort != "none"
    return made


def completion_request(body: Chunk) -> Chunk:
    """Raises Refused."""
    prompt = body.get("prompt", "")
    if not isinstance(prompt, str):
        kind = "array" if isinstance(prompt, list) else "number"
        raise bad_request(f"json: cannot unmarshal {kind} into Go struct field CompletionRequest.prompt of type string")
    unconditional = {"frequency_penalty": 0.0, "presence_penalty": 0.0}
    logprobs = body.get("logprobs")
    return {
        "model": body.get("model", ""),
        "prompt": prompt,
        "options": sampling(body) | unconditional | penalties(body),
        "logprobs": logprobs is not None,
        "top_logprobs": logprobs or 0,
    }


def sampling(body: Chunk) -> Chunk:
    options: Chunk = {"temperature": 1.0, "top_p": 1.0}
    for theirs, ours in (
        ("temperature", "temperature"),
        ("top_p", "top_p"),
        ("max_tokens", "num_predict"),
        ("seed", "seed"),
    ):
        if body.get(theirs) is not None:
            options[ours] = body[theirs]
    stop = body.get("stop")
    if stop is not None:
        options["stop"] = [stop] if isinstance(stop, str) else list(stop)
    return options


def penalties(body: Chunk) -> Chunk:
    names = ("frequency_penalty", "presence_penalty")
    return {name: body[name] for name in names if body.get(name) is not None}


def output_of(response_format: Chunk) -> Any:
    kind = str(response_format.get("type", "")).strip().lower()
    if kind == "json_object":
        return "json"
    return (response_format.get("json_schema") or {}).get("schema") if kind == "json_schema" else None


def messages_of(message: Chunk) -> Iterable[Chunk]:
    """Ollama makes one message of each content part. Raises Refused."""
    role, content = message.get("role", ""), message.get("content")
    extra = {"tool_calls": tool_calls(message), "tool_call_id": message.get("tool_call_id")}
    extra |= {"thinking": message.get("reasoning"), "tool_name": message.get("name")}
    extra = {name: value for name, value in extra.items() if value}
    if isinstance(content, str):
        return [{"role": role, "content": content, **extra}]
    if isinstance(content, list):
        parts: list[Chunk] = [{"role": role, **part_of(part)} for part in content]
        if parts:
            parts[-1] |= extra
        return parts
    if "tool_calls" not in extra:
        raise bad_request("invalid message content type: <nil>")
    return [{"role": role, "content": "", **extra}]


def part_of(part: Chunk) -> Chunk:
    if part.get("type") == "text" and isinstance(part.get("text"), str):
        return {"content": part["text"]}
    if part.get("type") == "image_url":
        url = part.get("image_url")
        url = url.get("url") if isinstance(url, dict) else url
        if not isinstance(url, str) or ";base64," not in url:
            raise bad_request("invalid image input")
        return {"content": "", "images": [url.partition(";base64,")[2]]}
    raise bad_request("invalid message format")


def tool_calls(message: Chunk) -> list[Chunk]:
    try:
        return [
            {
                "id": call.get("id"),
                "function": {**call["function"], "arguments": json.loads(call["function"]["arguments"])},
            }
            for call in message.get("tool_calls") or []
        ]
    except (json.JSONDecodeError, KeyError, TypeError) as exc:
        raise bad_request("invalid tool call arguments") from exc


class Events:
    """Server-sent events made of Ollama's chunks."""

    content_type = "text/event-stream"

    def __init__(self, *, chat: bool, usage: bool) -> None:
        self._chat = chat
        self._usage = usage
        self._called = False
        self._head: Chunk = {
            "id": f"{'chatcmpl' if chat else 'cmpl'}-{random.randrange(999)}",
            "object": "chat.completion.chunk" if chat else "text_completion",
            "created": int(datetime.now(UTC).timestamp()),
        }

    def encode(self, chunk: Chunk) -> Iterable[bytes]:
        head = {**self._head, "model": chunk["model"], "system_fingerprint": "fp_ollama"}
        yield event({**head, "choices": [self._choice(chunk)]})
        if chunk["done"]:
            if self._usage:
                yield event({**head, "choices": [], "usage": usage(chunk)})
            yield b"data: [DONE]\n\n"

    def error(self, message: str) -> bytes:
        return event(error_body(500, message))

    def _choice(self, chunk: Chunk) -> Chunk:
        if not self._chat:
            return {"text": chunk["response"], **ending(chunk, called=False)}
        delta = delta_of(chunk)
        self._called = self._called or "tool_calls" in delta
        return {"index": 0, "delta": delta, **ending(chunk, called=self._called)}


def event(body: Chunk) -> bytes:
    return b"data: " + json.dumps(body, ensure_ascii=False).encode() + b"\n\n"


def ending(chunk: Chunk, *, called: bool) -> Chunk:
    reason = chunk.get("done_reason")
    found: Chunk = {"index": 0, "finish_reason": "tool_calls" if called and reason else reason}
    if chunk.get("logprobs"):
        found["logprobs"] = {"content": chunk["logprobs"]}
    return found


def delta_of(chunk: Chunk) -> Chunk:
    message = chunk["message"]
    delta: Chunk = {"role": "assistant", "content": message["content"]}
    if message.get("thinking"):
        delta["reasoning"] = message["thinking"]
    if message.get("tool_calls"):
        delta["tool_calls"] = [
            {
                "id": call["id"],
                "index": call["function"]["index"],
                "type": "function",
                "function": {"name": call["function"]["name"], "arguments": json.dumps(call["function"]["arguments"])},
            }
            for call in message["tool_calls"]
        ]
    return delta


def usage(chunk: Chunk) -> Chunk:
    read, written = chunk.get("prompt_eval_count", 0), chunk.get("eval_count", 0)
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def chat_completion(whole: Chunk) -> Chunk:
    delta = delta_of(whole)
    choice = {"index": 0, "message": delta, **ending(whole, called="tool_calls" in delta)}
    return reply("chatcmpl", "chat.completion", whole, choice)


def text_completion(whole: Chunk) -> Chunk:
    return reply("cmpl", "text_completion", whole, {"text": whole["response"], **ending(whole, called=False)})


def reply(prefix: str, kind: str, whole: Chunk, choice: Chunk) -> Chunk:
    return {
        "id": f"{prefix}-{random.randrange(999)}",
        "object": kind,
        "created": int(datetime.now(UTC).timestamp()),
        "model": whole["model"],
        "system_fingerprint": "fp_ollama",
        "choices": [choice],
        "usage": usage(whole),
    }


def model_entry(name: str, namespace: str, modified: datetime) -> Chunk:
    return {"id": name, "object": "model", "created": int(modified.timestamp()), "owned_by": namespace}


def embedding_list(model: str, vectors: list[list[float]], count: int, encoding: str) -> Chunk:
    shaped = [
        b64encode(struct.pack(f"<{len(one)}f", *one)).decode() if encoding == "base64" else one for one in vectors
    ]
    data = [{"object": "embedding", "embedding": vector, "index": at} for at, vector in enumerate(shaped)]
    return {"object": "list", "data": data, "model": model, "usage": {"prompt_tokens": count, "total_tokens": count}}
