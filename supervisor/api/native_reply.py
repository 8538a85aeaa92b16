"""A reply in Ollama's own form, as the rest of us knows one: what the journal keeps of it, and it without its thinking.

/api/chat has the text in ``message``, /api/generate in ``response``; both part thinking from text by themselves, unless
the server does not know how the model marks it.
"""

import json
from collections.abc import Mapping
from typing import Any

from supervisor.api.capture import objects
from supervisor.api.ndjson import line_of
from supervisor.api.thinking import ThinkingFilter

MS = 1_000_000  # ns


class OpenAIForm:
    """Ollama's parts of one reply in OpenAI's form. A tool call comes whole, and not always with a number."""

    def __init__(self) -> None:
        self._calls = 0

    def part(self, native: Mapping[str, Any]) -> dict[str, Any]:
        """One line, or a whole answer; errors keep their shape."""
        if "error" in native:
            return {"error": native["error"]}
        message = native.get("message")
        said = message if isinstance(message, Mapping) else {"content": native.get("response"), **thought(native)}
        delta = {"content": said.get("content"), "reasoning_content": said.get("thinking")}
        if calls := objects(said.get("tool_calls")):
            delta["tool_calls"] = [self._call(call) for call in calls]
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason(native)}
        return {"choices": [choice], **numbers(native)}

    def _call(self, call: Mapping[str, Any]) -> dict[str, Any]:
        self._calls += 1
        function = call.get("function")
        named = (
            {name: value for name, value in function.items() if name != "index"} if isinstance(function, dict) else {}
        )
        return {**call, "index": self._calls - 1, "function": named}


def thought(native: Mapping[str, Any]) -> dict[str, Any]:
    return {"thinking": native["thinking"]} if "thinking" in native else {}


def finish_reason(native: Mapping[str, Any]) -> str | None:
    if native.get("done") is not True:
        return None
    reason = native.get("done_reason")
    return reason if isinstance(reason, str) and reason else "stop"


def numbers(native: Mapping[str, Any]) -> dict[str, Any]:
    """Counts and times of the last part, under the names that llama.cpp gives them."""
    if native.get("done") is not True:
        return {}
    read, written = whole(native.get("prompt_eval_count")), whole(native.get("eval_count"))
    usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
    writing = whole(native.get("eval_duration"))
    timings = {
        "load_ms": whole(native.get("load_duration")) / MS,
        "prompt_n": read,
        "prompt_ms": whole(native.get("prompt_eval_duration")) / MS,
        "predicted_n": written,
        "predicted_ms": writing / MS,
        "predicted_per_second": written * 1000 * MS / writing if writing else 0.0,
    }
    return {"usage": usage, "timings": timings}


def whole(value: object) -> int:
    """A count, 0 for what is none."""
    return value if isinstance(value, int) else 0


class NativeThinkingHidden:
    """Like ThinkingHidden, for Ollama's form."""

    def __init__(self) -> None:
        self._visible = ThinkingFilter()

    def event(self, event: bytes, parsed: Mapping[str, Any] | None) -> bytes:
        """The line without thinking; empty when nothing is left to tell."""
        if not parsed or not ("message" in parsed or "response" in parsed):
            return event
        last = parsed.get("done") is True
        kept, told = self._shown(parsed, last=last)
        return line_of(kept) if told or last or kept == parsed else b""

    def document(self, parsed: Mapping[str, Any]) -> bytes:
        """A whole answer without thinking, as JSON."""
        return json.dumps(self._shown(parsed, last=True)[0], ensure_ascii=False).encode()

    def _shown(self, parsed: Mapping[str, Any], *, last: bool) -> tuple[dict[str, Any], bool]:
        """What is left, and whether that says anything."""
        kept = {name: value for name, value in parsed.items() if name != "thinking"}
        message = kept.get("message")
        if isinstance(message, Mapping):
            rest = {name: value for name, value in message.items() if name != "thinking"}
            kept["message"] = {**rest, "content": self._visible_part(message.get("content"), last=last)}
            return kept, bool(kept["message"]["content"] or rest.get("tool_calls"))
        if "response" in kept:
            kept["response"] = self._visible_part(kept["response"], last=last)
        return kept, bool(kept.get("response"))

    def _visible_part(self, content: object, *, last: bool) -> object:
        if content is not None and not isinstance(content, str):
            return content
        return self._visible.feed(content or "") + (self._visible.flush() if last else "")
