"""The values the journal keeps: what was said, what a person thought of it, what was learned from that."""

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TypedDict

from pydantic import AwareDatetime, BaseModel, Field

LessonState = Literal["gathering", "queued", "running", "publishing", "done", "failed", "rejected"]
ENDED: frozenset[LessonState] = frozenset({"done", "failed", "rejected"})
UNDER_WAY: frozenset[LessonState] = frozenset({"running", "publishing"})


def new_id(prefix: str) -> str:
    """A name nobody else has; names made later sort later (microseconds first, then chance)."""
    microseconds = int(datetime.now(UTC).timestamp() * 1_000_000)
    return f"{prefix}-{microseconds:014x}{secrets.token_hex(5)}"


class Completion(BaseModel, frozen=True, extra="forbid"):
    """One reply of the assistant with the exact request that made it."""

    id: str
    created: AwareDatetime
    route: str
    model: str  # the name the request asked for
    adapter: str
    version: str | None  # of the adapter; None: the bare base answered
    base: str
    request: dict[str, Any]  # the JSON body as it came
    messages: list[dict[str, Any]]  # the conversation; a bare prompt is one user message
    reply: dict[str, Any]  # an assistant message, thinking included: role, content, reasoning_content, tool_calls
    finish_reason: str | None  # the backend's word, or "cancelled" (the client left), or "error"
    usage: dict[str, Any] | None = None
    timings: dict[str, Any] | None = None  # the backend's own, where it tells them
    ttft_s: float | None = None  # request read to first token
    total_s: float


class NewFeedback(BaseModel, frozen=True, extra="forbid"):
    """What a person said about one reply, named by its completion, by its text, or by both."""

    adapter: str
    text: str
    completion_id: str | None = None
    prompt: str | None = None
    response: str | None = None
    source: str = "api"


class Feedback(NewFeedback, frozen=True, extra="forbid"):
    """Feedback as it is kept: with its lesson."""

    id: str
    created: AwareDatetime
    lesson_id: str


class Lesson(BaseModel, frozen=True, extra="forbid"):
    """One training step over a batch of feedback.

    gathering → queued → running → publishing → done | rejected; failed from anywhere after queued.
    """

    id: str
    adapter: str
    state: LessonState
    created: AwareDatetime
    changed: AwareDatetime
    fed: AwareDatetime  # when its newest feedback came
    started: AwareDatetime | None = None
    finished: AwareDatetime | None = None
    training: dict[str, Any] = {}  # what the caller wants other than the plan's recipe
    orchestration: dict[str, Any] = {}
    attempts: int = 0
    progress: float = Field(0.0, ge=0.0, le=1.0)
    step: str = ""  # what is being done right now, in words
    version: str | None = None  # the adapter version it made
    parent: str | None = None  # the version it started from
    metrics: dict[str, Any] = {}
    timing_ms: dict[str, float] = {}
    error: str | None = None
    feedback_count: int = 0

    @property
    def ended(self) -> bool:
        return self.state in ENDED


class LessonChanges(TypedDict, total=False):
    """What ``Journal.update_lesson`` may change; stamps follow from the state."""

    state: LessonState
    progress: float
    step: str
    version: str | None
    parent: str | None
    metrics: Mapping[str, Any]
    timing_ms: Mapping[str, float]
    error: str | None


class Change(BaseModel, frozen=True):
    """Something is new or different. A hint to look: read the journal for what it is now."""

    kind: Literal["completion", "feedback", "lesson"]
    id: str
