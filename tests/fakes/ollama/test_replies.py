import json

import pytest

from tests.fakes.ollama.replies import ThinkingParser, ToolParser

CALL = json.dumps({"name": "weather", "arguments": {"city": "Rome"}})


def thought(parts: list[str], *, inside: bool = False) -> tuple[str, str]:
    parser = ThinkingParser(inside=inside)
    pairs = [parser.add(part, last=part is parts[-1]) for part in parts]
    return "".join(pair[0] for pair in pairs), "".join(pair[1] for pair in pairs)


def called(parts: list[str]) -> tuple[str, list[str]]:
    parser = ToolParser(["weather"])
    pairs = [parser.add(part) for part in parts]
    content = "".join(text for text, _ in pairs) + parser.rest()
    return content, [call["function"]["name"] for _, calls in pairs for call in calls]


@pytest.mark.parametrize("size", [1, 3, 100])
def test_thinking_is_split_from_content_wherever_the_pieces_end(size: int) -> None:
    text = "<think>Let me see.</think>\n\nIt is 4."

    assert thought([text[at : at + size] for at in range(0, len(text), size)]) == ("Let me see.", "It is 4.")


def test_a_prompt_that_opened_the_thinking_is_gone_on_with() -> None:
    assert thought(["Hm.</think>", "Yes."], inside=True) == ("Hm.", "Yes.")


def test_a_reply_without_thinking_is_all_content() -> None:
    assert thought(["Hello", " there"]) == ("", "Hello there")


def test_thinking_that_never_ends_is_all_thinking() -> None:
    assert thought(["<think>and", " on"]) == ("and on", "")


@pytest.mark.parametrize("size", [1, 7, 200])
def test_a_tagged_call_is_found_wherever_the_pieces_end(size: int) -> None:
    text = f"One moment. <tool_call>{CALL}</tool_call>"

    content, names = called([text[at : at + size] for at in range(0, len(text), size)])

    assert (content, names) == ("One moment. ", ["weather"])


def test_a_bare_object_is_a_call_too() -> None:
    assert called([CALL]) == ("", ["weather"])


def test_two_calls_come_as_two() -> None:
    assert called([f"<tool_call>{CALL}</tool_call>", f"<tool_call>{CALL}</tool_call>"])[1] == ["weather", "weather"]


def test_an_object_that_calls_nothing_known_stays_content() -> None:
    assert called(['{"name": "other"']) == ('{"name": "other"', [])


def test_plain_text_passes_through() -> None:
    assert called(["1 < 2", " and 3"]) == ("1 < 2 and 3", [])
