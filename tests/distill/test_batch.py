"""Samples become the token ids that the engine saw."""

import pytest
from transformers import PreTrainedTokenizerBase

from supervisor.distill.batch import encode, head_and_tail
from supervisor.errors import DistillError
from tests.distill import random_models
from tests.distill.lessons import TEMPLATE, sample


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    made = random_models.tokenizer()
    made.chat_template = TEMPLATE
    return made


def test_prompt_and_reply_spell_the_conversation_with_its_closing_token(tokenizer: PreTrainedTokenizerBase) -> None:
    encoded = encode(sample("Ann", "Hi 😊"), tokenizer, max_prompt=1000)

    assert tokenizer.decode(encoded.prompt) == "<user>how are you, Ann?<|end|><assistant>"
    assert tokenizer.decode(encoded.reply) == "Hi 😊<|end|>"


def test_student_and_teacher_differ_in_the_feedback_only(tokenizer: PreTrainedTokenizerBase) -> None:
    encoded = encode(sample("Ann"), tokenizer, max_prompt=1000)

    assert tokenizer.decode(encoded.hindsight) == (
        "<user>how are you, Ann? (a reader said: no emojis)<|end|><assistant>"
    )


def test_a_reply_that_was_cut_off_does_not_learn_to_stop_there(tokenizer: PreTrainedTokenizerBase) -> None:
    encoded = encode(sample("Ann", "Once upon a", closed=False), tokenizer, max_prompt=1000)

    assert tokenizer.decode(encoded.reply) == "Once upon a"


def test_an_empty_reply_that_was_cut_off_is_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(DistillError, match="reply of Ann is empty"):
        encode(sample("Ann", "", closed=False), tokenizer, max_prompt=1000)


def test_a_long_prompt_keeps_its_head_and_its_tail_and_says_what_was_cut(tokenizer: PreTrainedTokenizerBase) -> None:
    long = sample("Ann", messages=({"role": "user", "content": "word " * 200},))

    encoded = encode(long, tokenizer, max_prompt=64)

    assert len(encoded.prompt) == 64
    assert encoded.cut > 100
    assert tokenizer.decode(encoded.prompt).startswith("<user>word")
    assert tokenizer.decode(encoded.prompt).endswith("<|end|><assistant>")


def test_head_and_tail_leaves_a_short_prompt_alone() -> None:
    assert head_and_tail((1, 2, 3), 3) == (1, 2, 3)
    assert head_and_tail(tuple(range(12)), 8) == (0, 1, 6, 7, 8, 9, 10, 11)


def test_a_template_that_rewrites_its_own_prompt_is_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    odd = random_models.tokenizer()
    odd.chat_template = "{{ messages | length }}{% if add_generation_prompt %}>{% endif %}"

    with pytest.raises(DistillError, match="chat template"):
        encode(sample("Ann"), odd, max_prompt=1000)
