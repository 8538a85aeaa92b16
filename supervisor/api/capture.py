"""Puts a reply together from what a backend sends, for the journal; the stream itself goes its way untouched."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import anyio

from supervisor.engines.engine import Reply, Route, Served
from supervisor.journal.records import Completion, new_id

TEXTS = ("content", "reasoning_content", "reasoning", "refusal")  # parts of a delta that add up
SPOKEN = (*TEXTS, "tool_calls")


@dataclass(frozen=True)
class Asked:
    """A request as it came, and when (wall clock, and monotonic seconds)."""

    route: Route
    body: Mapping[str, Any]
    messages: list[dict[str, Any]]
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    began: float = field(default_factory=anyio.current_time)
    id: str = field(default_factory=lambda: new_id("cmpl"))


class Capture:
    """One reply in the making: its first choice, whatever the number asked for."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._texts: dict[str, list[str]] = {}
        self._calls: dict[int, dict[str, Any]] = {}
        self._other: dict[str, Any] = {}
        self._usage: dict[str, Any] | None = None
        self._timings: dict[str, Any] | None = None
        self._first_token: float | None = None
        self.finish_reason: str | None = None

    def take(self, part: Mapping[str, Any]) -> None:
        """An event's data, or a whole answer; what has not the known shape is passed over."""
        if "error" in part:
            self.finish_reason = "error"
        if isinstance(part.get("usage"), dict):
            self._usage = part["usage"]
        if isinstance(part.get("timings"), dict):
            self._timings = part["timings"]
        for choice in objects(part.get("choices")):
            if choice.get("index", 0) == 0:
                self._take_choice(choice)

    def completion(self, reply: Reply, served: Served, finish_reason: str | None) -> Completion:
        """What the journal keeps."""
        now, asked = anyio.current_time(), self._asked
        return Completion(
            id=asked.id,
            created=asked.created,
            route=asked.route,
            model=reply.model,
            adapter=served.adapter,
            version=reply.version,
            base=reply.model if reply.model in served.others else served.base,
            request=dict(asked.body),
            messages=asked.messages,
            reply=self._message(),
            finish_reason=finish_reason,
            usage=self._usage,
            timings=self._timings,
            ttft_s=None if self._first_token is None else self._first_token - asked.began,
            total_s=now - asked.began,
        )

    def _take_choice(self, choice: Mapping[str, Any]) -> None:
        delta = {"content": choice["text"]} if "text" in choice else choice.get("delta") or choice.get("message")
        if isinstance(delta, dict):
            self._take_delta(delta)
        if isinstance(choice.get("finish_reason"), str):
            self.finish_reason = choice["finish_reason"]

    def _take_delta(self, delta: Mapping[str, Any]) -> None:
        if self._first_token is None and any(delta.get(name) for name in SPOKEN):
            self._first_token = anyio.current_time()
        for name, value in delta.items():
            if name in TEXTS and isinstance(value, str):
                self._texts.setdefault(name, []).append(value)
            elif name == "tool_calls":
                self._take_calls(objects(value))
            elif value is not None:
                self._other[name] = value

    def _take_calls(self, calls: Sequence[dict[str, Any]]) -> None:
        for position, piece in enumerate(calls):
            index = piece["index"] if isinstance(piece.get("index"), int) else position
            call = self._calls.setdefault(index, {"type": "function", "function": {}})
            call.update({name: value for name, value in piece.items() if name not in ("index", "function") and value})
            function: dict[str, Any] = call["function"]
            new: Mapping[str, Any] = next(iter(objects([piece.get("function")])), {})
            function["name"] = function.get("name") or new.get("name") or ""
            arguments = new.get("arguments")
            if isinstance(arguments, str):
                function["arguments"] = function.get("arguments", "") + arguments
            elif arguments is not None:  # some backends send them parsed
                function["arguments"] = arguments

    def _message(self) -> dict[str, Any]:
        texts = {name: "".join(pieces) for name, pieces in self._texts.items()}
        message: dict[str, Any] = {"role": "assistant", **self._other, "content": "", **texts}
        if self._calls:
            message["tool_calls"] = [self._calls[index] for index in sorted(self._calls)]
        return message


def objects(values: object) -> list[dict[str, Any]]:
    """The JSON objects of a list; of anything else, none."""
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []
