"""What OpenClaw writes around a person's words, and how the words are found again.

Before them stand a time stamp and notes on sender and queue; behind them, or in a user message of its own, OpenClaw's
working context. (The plugin's ``prompt.js`` knows the same marks, to tell which words a piece of feedback is about.)
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

STAMP = r"\[[A-Z][a-z]{2} \d{4}-\d{2}-\d{2} \d{2}:\d{2}[^\]\n]{0,40}\] *"
SENDER = r"[^\n]*⟦openclaw:ctx⟧\n```json\n.*?\n```\n*"
QUEUED = r"\[Queued user message from a previous active turn;[^\]\n]*\]\n"
BEFORE = re.compile(rf"\A\s*(?:{STAMP}|{SENDER}|{QUEUED})+", re.DOTALL)
INTERNAL = re.compile(
    r"\n*<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>.*?(?:<<<END_OPENCLAW_INTERNAL_CONTEXT>>>\n*|\Z)", re.DOTALL
)
RESUMED = re.compile(r"(?:\A|\n\n)\[System\] Your previous turn was interrupted by a gateway restart[^\n]*")
FAILED_TURN = re.compile(r"\A\s*This turn ended before a reply: .*\Z", re.DOTALL)
# The line tells the model to answer with its technical name: it would talk a model out of a name it was taught.
IDENTITY = re.compile(r"\n*(?:<!-- OPENCLAW_CACHE_BOUNDARY -->)?\n*Current model identity: [^\n]*")
COMMAND = re.compile(r"\A\s*/(?:feedback|lessons)(?:\s|\Z)")

PROMPT_HEADER = "x-clawlama-prompt"
"""OpenClaw sends it with each request, as rendered into its configuration: how much of the above its model may read."""

Reading = Literal["lean", "full"]
Message = dict[str, Any]


def as_written(text: str) -> str:
    """What the person typed of a user message."""
    return FAILED_TURN.sub("", BEFORE.sub("", RESUMED.sub("", INTERNAL.sub("", text))))


def for_the_model(messages: Sequence[Message], reading: Reading) -> list[Message]:
    """The conversation as a model of ours is shown it. Our commands were said to us, not to the model: they go.

    ``lean``, for small models: besides, no technical name, no stamps, no notes, no message that nobody wrote.
    """
    kept = [message for message in messages if not is_command(message)]
    if reading == "full":
        return kept
    return [shown for message in kept if (shown := lean(message)) is not None]


def lean(message: Message) -> Message | None:
    """None for a user message of which nothing is left."""
    if message.get("role") in {"system", "developer"}:
        return rewritten(message, lambda text: IDENTITY.sub("", text))
    if message.get("role") != "user":
        return message
    shown = rewritten(message, as_written)
    return None if shown["content"] in ("", []) and message["content"] not in ("", []) else shown


def rewritten(message: Message, rewrite: Callable[[str], str]) -> Message:
    """``content`` is a text or, in OpenAI's form, a list of parts; a text part of which nothing is left goes."""
    content = message.get("content")
    if isinstance(content, str):
        return {**message, "content": rewrite(content)}
    if not isinstance(content, list):
        return message
    parts = [{**part, "text": rewrite(part["text"])} if is_text(part) else part for part in content]
    return {**message, "content": [part for part in parts if not is_text(part) or part["text"]]}


def is_command(message: Mapping[str, Any]) -> bool:
    return message.get("role") == "user" and bool(COMMAND.match(as_written(spoken(message.get("content")))))


def spoken(content: object) -> str:
    """The texts of a message's content."""
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content if is_text(part)) if isinstance(content, list) else ""


def is_text(part: object) -> bool:
    return isinstance(part, Mapping) and isinstance(part.get("text"), str) and part.get("type") == "text"
