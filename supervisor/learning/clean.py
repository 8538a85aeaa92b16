"""Recorded messages -> messages fit to train on.

OpenClaw writes things around a person's words that no lesson should teach: a time stamp before them, and a last user
message with its own working context. Message parts become plain text, tool arguments become objects, as chat templates
of Hugging Face models expect them.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from supervisor.errors import DistillError

STAMP = re.compile(r"\A\s*\[[A-Z][a-z]{2} \d{4}-\d{2}-\d{2} \d{2}:\d{2}(?::\d{2})? [^\]\n]{1,40}\] ?")
INTERNAL = "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>"

Message = dict[str, Any]


def clean_messages(messages: Sequence[Mapping[str, Any]]) -> tuple[Message, ...]:
    """Raises DistillError for content that a text lesson cannot hold (an image), naming it."""
    kept = [clean_message(message) for message in messages]
    return tuple(message for message in kept if not is_internal(message))


def clean_message(message: Mapping[str, Any]) -> Message:
    content = plain_text(message.get("content"))
    if message.get("role") == "user":
        content = STAMP.sub("", content)
    cleaned: Message = {"role": message["role"], "content": content}
    if message.get("reasoning_content"):
        cleaned["reasoning_content"] = message["reasoning_content"]
    if calls := message.get("tool_calls"):
        cleaned["tool_calls"] = [tool_call(call) for call in calls]
    if message.get("tool_call_id"):
        cleaned["tool_call_id"] = message["tool_call_id"]
    return cleaned


def is_internal(message: Message) -> bool:
    return message["role"] == "user" and INTERNAL in message["content"]


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
        function["arguments"] = json.loads(function["arguments"] or "{}")
    return {"type": "function", **{key: value for key, value in call.items() if key == "id"}, "function": function}
