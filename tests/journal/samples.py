"""Small true-to-life entries."""

from datetime import UTC, datetime
from typing import Any

from supervisor.journal.journal import Journal
from supervisor.journal.records import Completion, Lesson, NewFeedback, new_id

ADAPTER = "openclaw/assistant"


def completion(content: str = "Paris 🗼", prompt: str = "What is the capital of France?", **other: Any) -> Completion:
    messages = [{"role": "user", "content": prompt}]
    values: dict[str, Any] = {
        "id": new_id("cmpl"),
        "created": datetime.now(UTC),
        "route": "/v1/chat/completions",
        "model": ADAPTER,
        "adapter": ADAPTER,
        "version": "v0001",
        "base": "tiny-chat",
        "request": {"model": ADAPTER, "messages": messages, "temperature": 0.7},
        "messages": messages,
        "reply": {"role": "assistant", "content": content},
        "finish_reason": "stop",
        "usage": {"prompt_tokens": 9, "completion_tokens": 3},
        "ttft_s": 0.1,
        "total_s": 0.4,
    }
    return Completion.model_validate(values | other)


def feedback(text: str = "no emojis, please", adapter: str = ADAPTER, **other: Any) -> NewFeedback:
    return NewFeedback.model_validate({"adapter": adapter, "text": text, "response": "Paris 🗼"} | other)


async def taught(
    journal: Journal, *items: NewFeedback, gather: bool = False, batch_size: int = 4, **training: Any
) -> Lesson:
    """The lesson that this feedback, or one sample, went into."""
    return await journal.add_feedback(
        items or [feedback()], training=training, orchestration={}, gather=gather, batch_size=batch_size
    )
