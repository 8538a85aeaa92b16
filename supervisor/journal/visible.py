"""What of a reply a person saw: the text without the model's thinking. Two texts are compared by their digest."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

OPEN = "<think>"
CLOSE = "</think>"
THOUGHT = re.compile(rf"{OPEN}.*?(?:{CLOSE}|\Z)", re.DOTALL)


def visible_text(content: str) -> str:
    """``content`` without its thinking, closed or not, and without white space around what is left."""
    return THOUGHT.sub("", content).strip()


def content_text(content: object) -> str:
    """The text of a message's content, which is a string, a list of parts, or nothing."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(part["text"] for part in content if _is_text(part))
    return ""


def digest(content: str) -> str:
    """SHA-256 over the visible text, so that a reply is found with its thinking and without."""
    return hashlib.sha256(visible_text(content).encode("utf-8", "surrogatepass")).hexdigest()


def was_asked(messages: list[dict[str, Any]], prompt: str) -> bool:
    """Whether ``prompt`` stands in the last thing the user said; agents may add user messages of their own after it."""
    for message in reversed(messages):
        if message.get("role") != "user":
            return False
        if prompt.strip() in content_text(message.get("content")):
            return True
    return False


def _is_text(part: object) -> bool:
    return isinstance(part, Mapping) and isinstance(part.get("text"), str)
