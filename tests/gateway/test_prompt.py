"""The rules for what a model reads, on messages as OpenClaw was seen to send them."""

from typing import Any

import pytest

from supervisor.gateway.bookkeeping import Reading, for_the_model

CONTEXT = 'Conversation info: ⟦openclaw:ctx⟧\n```json\n{"sender":{"id":"gateway-owner"}}\n```\n\n'
INTERNAL = "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>\nRuntime: agent=main\n<<<END_OPENCLAW_INTERNAL_CONTEXT>>>"
IDENTITY = (
    "Current model identity: clawlama/x. If asked what model you are, answer with this value for the current run."
)


QUEUED = "[Queued user message from a previous active turn; preserved as context only. Continue below.]"
RESUMED = "[System] Your previous turn was interrupted by a gateway restart while OpenClaw was waiting. Continue."


def seen(reading: Reading, *messages: dict[str, Any]) -> list[Any]:
    """What the model is sent."""
    return [message["content"] for message in for_the_model(messages, reading)]


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


@pytest.mark.parametrize(
    "sent",
    [
        "What is tea?",
        "[Fri 2026-11-20 08:25 UTC] What is tea?",
        "[Mon 2026-01-05 23:59:58 GMT+9] What is tea?",
        f"{CONTEXT}What is tea?",
        f"[Fri 2026-11-20 08:25 UTC] {CONTEXT}{CONTEXT}What is tea?",
        f"What is tea?\n\n{INTERNAL}",
        f"{QUEUED}\nWhat is tea?\n\n{RESUMED}",
    ],
)
def test_a_small_model_reads_the_words_of_the_person(sent: str) -> None:
    assert seen("lean", user(sent)) == ["What is tea?"]


def test_a_turn_taken_up_after_a_restart_is_the_words_of_the_person_again() -> None:
    parts = [{"type": "text", "text": "What is tea?"}, {"type": "text", "text": RESUMED}]

    assert seen("lean", {"role": "user", "content": parts}, user(RESUMED)) == [parts[:1]]


@pytest.mark.parametrize(
    "sent", ["[see the list] first", "[Fri] dinner?", "[System] off?", "a [Fri 2026-11-20 08:25 UTC] b"]
)
def test_brackets_of_the_person_stay(sent: str) -> None:
    assert seen("lean", user(sent)) == [sent]


def test_messages_that_nobody_wrote_are_dropped() -> None:
    failed = "This turn ended before a reply: Model context window too small"

    assert seen("lean", user(failed), user("Hi"), user(INTERNAL)) == ["Hi"]


@pytest.mark.parametrize("boundary", ["\n\n", "\n<!-- OPENCLAW_CACHE_BOUNDARY -->\n\n"])
def test_a_small_model_is_not_told_a_technical_name(boundary: str) -> None:
    system = {"role": "system", "content": f"Be kind.{boundary}{IDENTITY}"}

    assert seen("lean", system, user("Hi")) == ["Be kind.", "Hi"]


def test_pictures_stay_with_their_text() -> None:
    picture = {"type": "image", "data": "abc", "mimeType": "image/png"}
    message = {"role": "user", "content": [{"type": "text", "text": "[Fri 2026-11-20 08:25 UTC] Look"}, picture]}

    assert seen("lean", message) == [[{"type": "text", "text": "Look"}, picture]]


@pytest.mark.parametrize("reading", ["lean", "full"])
@pytest.mark.parametrize("command", ["/feedback shorter", "/lessons", f"{CONTEXT}/feedback shorter"])
def test_our_commands_are_not_part_of_the_conversation(reading: Reading, command: str) -> None:
    assert seen(reading, user("Hi"), user(command), user("/feedbacks?")) == ["Hi", "/feedbacks?"]


def test_a_big_model_reads_all_that_openclaw_says() -> None:
    sent = [
        {"role": "system", "content": IDENTITY},
        user(f"[Fri 2026-11-20 08:25 UTC] {CONTEXT}Hi"),
        user(INTERNAL),
    ]

    assert for_the_model(sent, "full") == sent


def test_replies_are_never_touched() -> None:
    reply = {"role": "assistant", "content": [{"type": "text", "text": "/feedback is how you teach me"}]}

    assert for_the_model([reply], "lean") == [reply]
