"""How a backend streams: OpenAI's routes in server-sent events, Ollama's own in lines of JSON. One object per reply."""

from collections.abc import Mapping
from typing import Any, Protocol

from supervisor.api.failures import failure_body
from supervisor.api.native_reply import NativeThinkingHidden, OpenAIForm
from supervisor.api.ndjson import LineSplitter, line_of, object_in
from supervisor.api.sse import EventSplitter, data_of, event_of
from supervisor.api.thinking import ThinkingHidden, parsed_data
from supervisor.engines.engine import OPENAI_ROUTES, Route

DONE = b"[DONE]"


class Splitter(Protocol):
    """Bytes in, cut anywhere; whole events out, no byte changed."""

    def feed(self, data: bytes) -> list[bytes]: ...

    def rest(self) -> bytes: ...


class Hiding(Protocol):
    """Takes the thinking out of an event, or out of a whole answer."""

    def event(self, event: bytes, parsed: Mapping[str, Any] | None) -> bytes: ...

    def document(self, parsed: Mapping[str, Any]) -> bytes: ...


class Framing(Protocol):
    @property
    def content_type(self) -> str:
        """How such a stream is announced."""
        ...

    def splitter(self) -> Splitter: ...

    def hiding(self) -> Hiding: ...

    def parsed(self, event: bytes) -> dict[str, Any] | None:
        """The event's JSON object, None when it has none."""
        ...

    def ends(self, event: bytes, parsed: Mapping[str, Any] | None) -> bool:
        """Whether the reply is over with this event, so that it must be recorded before the event passes."""
        ...

    def part(self, parsed: Mapping[str, Any]) -> Mapping[str, Any]:
        """An event's object, or a whole answer, in OpenAI's form."""
        ...

    def failure(self, status: int, message: str) -> bytes:
        """What tells a client in the middle of a stream that it broke off."""
        ...


class Events:
    content_type = "text/event-stream"

    def splitter(self) -> Splitter:
        return EventSplitter()

    def hiding(self) -> Hiding:
        return ThinkingHidden()

    def parsed(self, event: bytes) -> dict[str, Any] | None:
        return parsed_data(event)

    def ends(self, event: bytes, parsed: Mapping[str, Any] | None) -> bool:
        return parsed is None and data_of(event).strip() == DONE

    def part(self, parsed: Mapping[str, Any]) -> Mapping[str, Any]:
        return parsed

    def failure(self, status: int, message: str) -> bytes:
        return event_of(failure_body(status, message))


class Lines:
    content_type = "application/x-ndjson"

    def __init__(self) -> None:
        self._form = OpenAIForm()

    def splitter(self) -> Splitter:
        return LineSplitter()

    def hiding(self) -> Hiding:
        return NativeThinkingHidden()

    def parsed(self, event: bytes) -> dict[str, Any] | None:
        return object_in(event)

    def ends(self, event: bytes, parsed: Mapping[str, Any] | None) -> bool:
        return parsed is not None and parsed.get("done") is True

    def part(self, parsed: Mapping[str, Any]) -> Mapping[str, Any]:
        return self._form.part(parsed)

    def failure(self, status: int, message: str) -> bytes:
        return line_of({"error": message})


def framing_of(route: Route) -> Framing:
    return Events() if route in OPENAI_ROUTES else Lines()
