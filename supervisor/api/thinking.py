"""What a caller sees of a model that thinks aloud, when it asked not to see the thinking. The journal keeps it all."""

import json
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from supervisor.api.capture import objects
from supervisor.api.sse import data_of, event_of
from supervisor.journal.visible import CLOSE, OPEN

THOUGHTS = ("reasoning_content", "reasoning")  # where backends that part thinking from content put it


class ThinkingFilter:
    """Drops ``<think>…</think>`` from a text that comes in pieces cut anywhere; an unclosed one reaches to the end.

    White space between a thought that stood first and the reply goes too.
    """

    def __init__(self) -> None:
        self._inside = False
        self._held = ""  # may be the beginning of a tag
        self._spoke = False  # something has been shown
        self._trim = False

    def feed(self, piece: str) -> str:
        """What of the text so far can be shown now."""
        text, shown = self._held + piece, ""
        while True:
            tag = CLOSE if self._inside else OPEN
            before, found, after = text.partition(tag)
            if not found:
                break
            shown += self._show(before)
            self._inside = not self._inside
            self._trim = not self._spoke
            text = after
        sure = len(text) - _overlap(text, tag)
        self._held = text[sure:]
        return shown + self._show(text[:sure])

    def flush(self) -> str:
        """What was held back as the beginning of a tag that never came."""
        held, self._held = self._held, ""
        return self._show(held)

    def _show(self, text: str) -> str:
        if self._inside:
            return ""
        if self._trim:
            text = text.lstrip()
            self._trim = not text
        self._spoke = self._spoke or bool(text.strip())
        return text


class ThinkingHidden:
    """Rewrites a backend's answer, event by event or as a whole, so that no thinking is left in it."""

    def __init__(self) -> None:
        self._filters: defaultdict[str, ThinkingFilter] = defaultdict(ThinkingFilter)  # by choice

    def event(self, event: bytes, parsed: Mapping[str, Any] | None) -> bytes:
        """The event without thinking; empty when nothing is left to tell. ``parsed``: its data, if that is JSON."""
        choices = objects(parsed.get("choices")) if parsed else []
        if not parsed or not choices:
            return event
        kept = [self._choice(choice) for choice in choices]
        if all(_says_nothing(before, after) for before, after in zip(choices, kept, strict=True)):
            return b""
        return event_of({**parsed, "choices": kept})

    def document(self, parsed: Mapping[str, Any]) -> bytes:
        """A whole answer without thinking, as JSON."""
        choices = [self._choice(choice, whole=True) for choice in objects(parsed.get("choices"))]
        return json.dumps({**parsed, "choices": choices}, ensure_ascii=False).encode()

    def _choice(self, choice: Mapping[str, Any], *, whole: bool = False) -> dict[str, Any]:
        last = whole or choice.get("finish_reason") is not None
        field = "message" if "message" in choice else "delta"
        if "text" in choice:
            return {**choice, "text": self._shown(choice, choice["text"], last=last)}
        if not isinstance(choice.get(field), dict):
            return dict(choice)
        part = {name: value for name, value in choice[field].items() if name not in THOUGHTS}
        content = self._shown(choice, part.get("content"), last=last)
        return {**choice, field: part if content is None else {**part, "content": content}}

    def _shown(self, choice: Mapping[str, Any], content: object, *, last: bool) -> object:
        """What can be shown of a choice's text now; what is no text stays as it is."""
        if content is not None and not isinstance(content, str):
            return content
        visible = self._filters[str(choice.get("index", 0))]
        shown = visible.feed(content or "") + (visible.flush() if last else "")
        return shown if shown or content is not None else None


def _says_nothing(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether a piece of a reply was all thinking: it had something to show, and has nothing now."""
    delta = after.get("delta")
    told = (isinstance(delta, dict) and any(delta.values())) or bool(after.get("text"))
    return before != after and after.get("finish_reason") is None and not told


def parsed_data(event: bytes) -> dict[str, Any] | None:
    """The event's data as a JSON object; None for anything else, such as ``[DONE]`` or a comment."""
    try:
        parsed = json.loads(data_of(event))
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None


def _overlap(text: str, tag: str) -> int:
    """How many characters at the end of ``text`` may be the beginning of ``tag``."""
    return next((size for size in range(min(len(text), len(tag) - 1), 0, -1) if text.endswith(tag[:size])), 0)
