"""A recorded reply becomes the text that the model wrote, whatever template and engine made of it."""

from copy import deepcopy
from typing import Any

import pytest
from tokenizers import AddedToken

from supervisor.distill.batch import encode, spell
from tests.distill import chat_models
from tests.distill.chat_formats import FORMATS
from tests.distill.lessons import sample

CALL = {"type": "function", "function": {"name": "look", "arguments": {"at": "東京"}}}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {}}}
SPOKEN = '<tool_call>\n{"name": "look", "arguments": {"at": "東京"}}\n</tool_call>'


def learned(family: str, reply: dict[str, Any], *, written: str | None = None, **more: Any) -> str:
    """The reply's text; ``written``: what the engine had counted the tokens of."""
    tokenizer = chat_models.tokenizer(FORMATS[family])
    count = None if written is None else len(tokenizer(written, add_special_tokens=False)["input_ids"])
    asked = sample("Ann", reply_tokens=count, **more)
    one = encode(asked.model_copy(update={"reply": {"role": "assistant", **reply}}), tokenizer, max_prompt=2000)
    assert not one.respelled
    return spell(tokenizer, one.reply)


@pytest.mark.parametrize("family", FORMATS)
def test_a_reply_ends_with_the_mark_that_closes_a_turn_and_nothing_after_it(family: str) -> None:
    text = learned(family, {"content": "Hello 😊"})

    assert text.removeprefix("<think>\n\n</think>\n\n").strip() == f"Hello 😊{FORMATS[family].closing}"


@pytest.mark.parametrize("family", FORMATS)
@pytest.mark.parametrize("words", ["Hello 😊", " Hello", "Hello \n", "\n\n Hello "])
def test_words_are_learned_as_they_were_written_if_the_engine_counted_them(family: str, words: str) -> None:
    text = words + FORMATS[family].closing

    assert learned(family, {"content": words}, written=text) == text


@pytest.mark.parametrize("family", FORMATS)
def test_words_that_were_cut_off_do_not_teach_to_stop(family: str) -> None:
    text = learned(family, {"content": "Once upon a "}, written="Once upon a ", closed=False)

    assert text == "Once upon a "


def test_a_thought_that_was_cut_off_is_not_ended() -> None:
    text = learned("qwen3", {"content": "", "reasoning_content": "Hm, well"}, closed=False)

    assert text == "<think>\nHm, well"


def test_empty_thoughts_are_learned_only_where_they_were_written() -> None:
    silent, empty = "Hello<|im_end|>", "<think>\n\n</think>\n\nHello<|im_end|>"

    assert learned("qwen3", {"content": "Hello"}, written=silent) == silent
    assert learned("qwen3", {"content": "Hello"}, written=empty) == empty
    assert learned("qwen3", {"content": "Hello"}, template={"enable_thinking": False}) == silent


@pytest.mark.parametrize("words", ["", "So:", "So:\n"])
def test_a_line_break_before_a_call_is_written_once(words: str) -> None:
    text = f"<think>\nI look.\n</think>\n\n{words.strip()}{SPOKEN if not words else chr(10) + SPOKEN}<|im_end|>"
    reply = {"content": words, "reasoning_content": "I look.\n", "tool_calls": [CALL]}

    assert learned("qwen3", reply, written=text, tools=(TOOL,)) == text


def test_a_reply_that_the_engine_had_split_otherwise_is_noticed() -> None:
    tokenizer = chat_models.tokenizer(FORMATS["qwen3"])
    one = encode(sample("Ann", "Hello there", reply_tokens=40), tokenizer, max_prompt=2000)

    assert one.respelled


def test_an_engine_may_leave_the_closing_token_uncounted() -> None:
    tokenizer = chat_models.tokenizer(FORMATS["phi3"])
    told = encode(sample("Ann", "Hello there"), tokenizer, max_prompt=2000)

    one = encode(sample("Ann", "Hello there", reply_tokens=len(told.reply) - 1), tokenizer, max_prompt=2000)

    assert (one.reply, one.respelled) == (told.reply, False)


def test_a_token_that_is_text_closes_no_turn() -> None:
    """Qwen's vocabulary has the marks around a call as whole tokens, and they are no control tokens."""
    tokenizer = deepcopy(chat_models.tokenizer(FORMATS["qwen3"]))
    tokenizer.add_tokens([AddedToken("</tool_call>", special=False)])
    asked = sample("Ann").model_copy(update={"reply": {"role": "assistant", "content": "", "tool_calls": [CALL]}})

    one = encode(asked, tokenizer, max_prompt=2000)

    assert spell(tokenizer, one.reply).endswith("</tool_call><|im_end|>")
    assert tokenizer.convert_ids_to_tokens(one.closing) == "<|im_end|>"
