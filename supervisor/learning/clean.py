"""Recorded messages -> messages fit to train on.

What OpenClaw writes around a person's words no lesson should teach. Message parts become plain text, tool arguments
become objects, as chat templates of Hugging Face models expect them.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from supervisor.errors import DistillError
from supervisor.gateway.bookkeeping import as_written

Message = dict[str, Any]
THOUGHTS = ("reasoning_content", "reasoning", "thinking")  # what backends call them


def clean_messages(messages: Sequence[Mapping[str, Any]]) -> tuple[Message, ...]:
    """Messages that nobody wrote are dropped. Raises DistillError for what a text lesson cannot hold, naming it."""
    pairs = [(message, clean_message(message)) for message in messages]
    return tuple(cleaned for message, cleaned in pairs if not was_bookkeeping(message, cleaned))


def clean_message(message: Mapping[str, Any]) -> Message:
    """Raises DistillError for an image, for tool arguments that are no object, and for what is no chat message."""
    try:
        return _cleaned(message)
    except (AttributeError, KeyError, TypeError) as exc:
        raise DistillError(f"this is not a chat message: {str(message)[:200]} ({type(exc).__name__}: {exc})") from exc


def was_bookkeeping(message: Mapping[str, Any], cleaned: Message) -> bool:
    """Whether nothing is left of a user message that was not empty."""
    return cleaned["role"] == "user" and not cleaned["content"].strip() and bool(message.get("content"))


def plain_text(content: str | Sequence[Mapping[str, Any]] | None) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    for part in content:
        if part.get("type") != "text":
            raise DistillError(f"a message holds {part.get('type')!r}; lessons are about text only so far")
    return "\n".join(str(part["text"]) for part in content)


def tool_call(call: Mapping[str, Any]) -> Message:
    function = dict(call["function"])
    if isinstance(function.get("arguments"), str):
        function["arguments"] = arguments(function["name"], function["arguments"])
    return {"type": "function", **{key: value for key, value in call.items() if key == "id"}, "function": function}


def arguments(name: str, text: str) -> Mapping[str, Any]:
    try:
        values = json.loads(text or "{}")
    except json.JSONDecodeError as exc:
        raise DistillError(f"a call of tool {name!r} has arguments that are not JSON ({exc}): {text[:200]}") from exc
    if not isinstance(values, dict):
        raise DistillError(f"a call of tool {name!r} has arguments that are no JSON object: {text[:200]}")
    return values


def _cleaned(message: Mapping[str, Any]) -> Message:
    content = plain_text(message.get("content"))
    cleaned: Message = {
        "role": message["role"],
        "content": as_written(content) if message["role"] == "user" else content,
    }
    if message.get("images"):
        raise DistillError("a message holds an image; lessons are about text only so far")
    if thought := next((message[name] for name in THOUGHTS if message.get(name)), None):
        cleaned["reasoning_content"] = thought
    if calls := message.get("tool_calls"):
        cleaned["tool_calls"] = [tool_call(call) for call in calls]
    if message.get("tool_call_id"):
        cleaned["tool_call_id"] = message["tool_call_id"]
    return cleaned
