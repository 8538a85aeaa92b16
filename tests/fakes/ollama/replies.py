"""Parts of a reply that are not plain content: thinking between tags, tool calls written as JSON."""

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

OPEN, CLOSE = "<think>", "</think>"
TOOL_TAG, TOOL_END = "<tool_call>", "</tool_call>"


def overlap(text: str, tag: str) -> int:
    """How many characters at the end of ``text`` may be the beginning of ``tag``."""
    return next((length for length in range(min(len(tag) - 1, len(text)), 0, -1) if text.endswith(tag[:length])), 0)


@dataclass
class ThinkingParser:
    """Splits what streams in into thinking and content; the tags and the space around them go to neither."""

    inside: bool = False
    _over: bool = False
    _spoken: bool = False
    _buffer: str = ""

    def add(self, text: str, *, last: bool) -> tuple[str, str]:
        """Thinking, content."""
        if self._over:
            return "", self._content(text)
        self._buffer += text
        if not self.inside:
            start = self._buffer.lstrip()
            if OPEN.startswith(start[: len(OPEN)]) and len(start) < len(OPEN) and not last:
                return "", ""  # may become the tag
            self.inside = start.startswith(OPEN)
            if not self.inside:
                self._over = self._spoken = True
                return "", self._take(len(self._buffer))
            self._buffer = start.removeprefix(OPEN)
        thinking, tag, content = self._buffer.partition(CLOSE)
        if tag:
            self._over = True
            return thinking.rstrip(), self._content(content)
        held = 0 if last else overlap(self._buffer, CLOSE)
        return self._take(len(self._buffer) - held), ""

    def _content(self, text: str) -> str:
        text = text if self._spoken else text.lstrip()
        self._spoken = self._spoken or bool(text)
        return text

    def _take(self, length: int) -> str:
        taken, self._buffer = self._buffer[:length], self._buffer[length:]
        return taken


@dataclass
class ToolParser:
    """Finds calls of known tools: a JSON object with a name and arguments, after the tag or as the whole reply."""

    names: Sequence[str]
    _buffer: str = ""
    _calls: int = 0

    def add(self, text: str) -> tuple[str, list[dict[str, Any]]]:
        """Content that is certainly no call, and the calls that are complete."""
        self._buffer += text
        before, tag, rest = self._buffer.partition(TOOL_TAG)
        if not tag and not self._buffer.lstrip().startswith("{"):
            if self._calls:
                self._buffer = self._buffer.replace(TOOL_END, "")
            held = max(overlap(self._buffer, TOOL_TAG), overlap(self._buffer, TOOL_END))
            content = self._buffer[: len(self._buffer) - held]
            self._buffer = self._buffer[len(self._buffer) - held :]
            return content, []
        self._buffer = tag + rest if tag else self._buffer
        return before if tag else "", self._complete_calls()

    def rest(self) -> str:
        """At the end: what looked like a call and was none."""
        return "" if self._calls else self._buffer

    def _complete_calls(self) -> list[dict[str, Any]]:
        calls = []
        while (start := self._buffer.find("{")) >= 0:
            try:
                found, end = json.JSONDecoder().raw_decode(self._buffer[start:])
            except json.JSONDecodeError:
                break
            self._buffer = self._buffer[start + end :].lstrip().removeprefix(TOOL_END).lstrip()
            if call := self._call(found):
                calls.append(call)
        return calls

    def _call(self, found: Any) -> dict[str, Any] | None:
        name = found.get("name") if isinstance(found, dict) else None
        if name not in self.names:
            return None
        arguments = found.get("arguments", found.get("parameters", {}))
        call = {"index": self._calls, "name": name, "arguments": arguments}
        self._calls += 1
        return {"id": f"call_{secrets.token_hex(4)}", "function": call}
