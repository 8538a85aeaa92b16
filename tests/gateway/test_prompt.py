"""The plugin's rules for what a model reads, on messages as OpenClaw was seen to send them."""

import json
import subprocess
from typing import Any

import pytest

from supervisor.gateway.find import Runtime
from tests.gateway.world import PLUGIN

pytestmark = pytest.mark.openclaw

SCRIPT = """
const rules = await import(process.argv[1] + "/prompt.js");
const { rule, context } = JSON.parse(process.argv[2]);
const send = rules[rule]({ streamFn: (model, context) => context });
console.log(JSON.stringify(send(null, context)));
"""
CONTEXT = 'Conversation info: ⟦openclaw:ctx⟧\n```json\n{"sender":{"id":"gateway-owner"}}\n```\n\n'
INTERNAL = "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>\nRuntime: agent=main\n<<<END_OPENCLAW_INTERNAL_CONTEXT>>>"
IDENTITY = (
    "Current model identity: clawlama/x. If asked what model you are, answer with this value for the current run."
)


QUEUED = "[Queued user message from a previous active turn; preserved as context only. Continue below.]"
RESUMED = "[System] Your previous turn was interrupted by a gateway restart while OpenClaw was waiting. Continue."


def seen(runtime: Runtime, rule: str, messages: list[dict[str, Any]], system: str = "Be kind.") -> dict[str, Any]:
    """What the model is sent under this rule."""
    given = json.dumps({"rule": rule, "context": {"systemPrompt": system, "messages": messages}})
    argv = [str(runtime.node), "--input-type=module", "--eval", SCRIPT, str(PLUGIN), given]
    result = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    context: dict[str, Any] = json.loads(result.stdout)
    return context


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def texts(context: dict[str, Any]) -> list[str]:
    return [message["content"] for message in context["messages"]]


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
def test_a_small_model_reads_the_words_of_the_person(runtime: Runtime, sent: str) -> None:
    assert texts(seen(runtime, "leanStream", [user(sent)])) == ["What is tea?"]


def test_a_turn_taken_up_after_a_restart_is_the_words_of_the_person_again(runtime: Runtime) -> None:
    parts = [{"type": "text", "text": "What is tea?"}, {"type": "text", "text": RESUMED}]

    context = seen(runtime, "leanStream", [{"role": "user", "content": parts}, user(RESUMED)])

    assert [message["content"] for message in context["messages"]] == [parts[:1]]


@pytest.mark.parametrize(
    "sent", ["[see the list] first", "[Fri] dinner?", "[System] off?", "a [Fri 2026-11-20 08:25 UTC] b"]
)
def test_brackets_of_the_person_stay(runtime: Runtime, sent: str) -> None:
    assert texts(seen(runtime, "leanStream", [user(sent)])) == [sent]


def test_messages_that_nobody_wrote_are_dropped(runtime: Runtime) -> None:
    failed = "This turn ended before a reply: Model context window too small"

    assert texts(seen(runtime, "leanStream", [user(failed), user("Hi"), user(INTERNAL)])) == ["Hi"]


@pytest.mark.parametrize("boundary", ["\n\n", "\n<!-- OPENCLAW_CACHE_BOUNDARY -->\n\n"])
def test_a_small_model_is_not_told_a_technical_name(runtime: Runtime, boundary: str) -> None:
    context = seen(runtime, "leanStream", [user("Hi")], f"Be kind.{boundary}{IDENTITY}")

    assert context["systemPrompt"] == "Be kind."


def test_pictures_stay_with_their_text(runtime: Runtime) -> None:
    picture = {"type": "image", "data": "abc", "mimeType": "image/png"}
    message = {"role": "user", "content": [{"type": "text", "text": "[Fri 2026-11-20 08:25 UTC] Look"}, picture]}

    (sent,) = seen(runtime, "leanStream", [message])["messages"]
    assert sent["content"] == [{"type": "text", "text": "Look"}, picture]


@pytest.mark.parametrize("rule", ["leanStream", "withoutCommands"])
@pytest.mark.parametrize("command", ["/feedback shorter", "/lessons", f"{CONTEXT}/feedback shorter"])
def test_our_commands_are_not_part_of_the_conversation(runtime: Runtime, rule: str, command: str) -> None:
    assert texts(seen(runtime, rule, [user("Hi"), user(command), user("/feedbacks?")])) == ["Hi", "/feedbacks?"]


def test_a_big_model_reads_all_that_openclaw_says(runtime: Runtime) -> None:
    sent = [user(f"[Fri 2026-11-20 08:25 UTC] {CONTEXT}Hi"), user(INTERNAL)]

    assert seen(runtime, "withoutCommands", sent, IDENTITY) == {"systemPrompt": IDENTITY, "messages": sent}


def test_replies_are_never_touched(runtime: Runtime) -> None:
    reply = {"role": "assistant", "content": [{"type": "text", "text": "/feedback is how you teach me"}]}

    assert seen(runtime, "leanStream", [reply])["messages"] == [reply]
