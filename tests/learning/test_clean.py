from typing import Any

import pytest

from supervisor.errors import DistillError
from supervisor.learning.clean import clean_message, clean_messages

STAMP = "[Fri 2026-11-20 08:25 UTC] "
SENDER = 'Conversation info: ⟦openclaw:ctx⟧\n```json\n{"sender":{"id":"gateway-owner"}}\n```\n\n'
FAILED = "This turn ended before a reply: Model context window too small\n(8192 needed)"
QUEUED = "[Queued user message from a previous active turn; answer it now]\n"
RESUMED = "\n\n[System] Your previous turn was interrupted by a gateway restart. Go on."
INTERNAL = "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>\nActive exec sessions: none\n<<<END_OPENCLAW_INTERNAL_CONTEXT>>>"


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


@pytest.mark.parametrize(
    "sent",
    [
        "What is tea?",
        f"{STAMP}What is tea?",
        "[Mon 2026-01-05 23:59:58 GMT+9] What is tea?",
        f"{SENDER}What is tea?",
        f"{STAMP}{SENDER}{SENDER}What is tea?",
        f"{SENDER}{STAMP}What is tea?",
        f"What is tea?\n\n{INTERNAL}",
        f"{STAMP}What is tea?\n{INTERNAL}\n{INTERNAL}",
        f"What is tea?\n\n{INTERNAL[:50]}",
        f"{QUEUED}{STAMP}What is tea?{RESUMED}",
        [{"type": "text", "text": f"{STAMP}What is tea?"}],
    ],
)
def test_a_lesson_holds_the_words_of_the_person(sent: Any) -> None:
    assert clean_messages([user(sent)]) == (user("What is tea?"),)


@pytest.mark.parametrize(
    "typed", ["[see the list] first", "[Fri] dinner?", f"a {STAMP}b", "  indented", "⟦openclaw:ctx⟧ what is that?", ""]
)
def test_brackets_and_spaces_of_the_person_stay(typed: str) -> None:
    assert clean_messages([user(typed)]) == (user(typed),)


@pytest.mark.parametrize(
    "sent", [INTERNAL, f"{STAMP}{INTERNAL}", [{"type": "text", "text": INTERNAL}], RESUMED.strip(), FAILED]
)
def test_messages_that_nobody_wrote_are_dropped(sent: Any) -> None:
    assert clean_messages([user("Hi"), user(sent)]) == (user("Hi"),)


@pytest.mark.parametrize("role", ["assistant", "system", "tool"])
def test_only_what_people_wrote_is_cleaned(role: str) -> None:
    message = {"role": role, "content": f"{STAMP}{INTERNAL}"}

    assert clean_message(message) == message


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, ""),
        ("as it is\n", "as it is\n"),
        ([], ""),
        ([{"type": "text", "text": "one"}, {"type": "text", "text": "two"}], "one\ntwo"),
    ],
)
def test_content_of_any_form_becomes_text(content: Any, text: str) -> None:
    assert clean_message({"role": "assistant", "content": content}) == {"role": "assistant", "content": text}


@pytest.mark.parametrize(
    ("given", "parsed"), [('{"city": "Kyōto"}', {"city": "Kyōto"}), ("", {}), ("{}", {}), ({"a": 1}, {"a": 1})]
)
def test_tool_arguments_become_an_object(given: Any, parsed: Any) -> None:
    call = {"id": "c1", "type": "function", "index": 0, "function": {"name": "weather", "arguments": given}}

    cleaned = clean_message({"role": "assistant", "content": None, "tool_calls": [call]})

    assert cleaned["tool_calls"] == [
        {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": parsed}}
    ]


def test_a_tools_answer_keeps_the_call_it_belongs_to() -> None:
    message = {"role": "tool", "content": "21 °C", "tool_call_id": "c1", "name": "weather"}

    assert clean_message(message) == {"role": "tool", "content": "21 °C", "tool_call_id": "c1"}


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking"])
def test_thinking_is_kept_and_what_no_template_knows_is_not(name: str) -> None:
    message = {"role": "assistant", "content": "Yes.", name: "Hm.", "refusal": None, "audio": None}

    assert clean_message(message) == {"role": "assistant", "content": "Yes.", "reasoning_content": "Hm."}


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        (
            user([{"type": "image_url", "image_url": {"url": "data:"}}]),
            "holds 'image_url'; lessons are about text only",
        ),
        ({"content": "no role"}, "not a chat message: {'content': 'no role'}"),
        (user(5), "not a chat message"),
        (user(["text"]), "not a chat message"),
        (user([{"type": "text"}]), "not a chat message"),
        ({"role": "assistant", "tool_calls": [{"id": "c1"}]}, "not a chat message"),
        (
            {"role": "assistant", "tool_calls": [{"function": {"name": "weather", "arguments": '{"city": '}}]},
            "tool 'weather' has arguments that are not JSON",
        ),
        (
            {"role": "assistant", "tool_calls": [{"function": {"name": "weather", "arguments": "[1]"}}]},
            "tool 'weather' has arguments that are no JSON object",
        ),
    ],
)
def test_what_no_lesson_can_hold_is_an_error_that_names_it(message: dict[str, Any], problem: str) -> None:
    with pytest.raises(DistillError) as error:
        clean_messages([message])

    assert problem in str(error.value)
