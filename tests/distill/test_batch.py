"""Samples become the token ids that the engine saw."""

import pytest
from transformers import PreTrainedTokenizerBase

from supervisor.distill.batch import cuts, encode, ids, middle
from supervisor.distill.job import Sample
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


def test_the_middle_is_what_first_quarter_and_last_three_leave() -> None:
    assert not middle(3, 3)
    assert not middle(1, 64)
    assert middle(100, 40) == range(10, 70)


def test_a_template_that_rewrites_its_own_prompt_is_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    odd = random_models.tokenizer()
    odd.chat_template = "{{ messages | length }}{% if add_generation_prompt %}>{% endif %}"

    with pytest.raises(DistillError, match="chat template"):
        encode(sample("Ann"), odd, max_prompt=1000)


def feedback_on(*messages: dict[str, str]) -> Sample:
    """A sample whose teacher reads a note behind what the user said last."""
    asked = max(place for place, message in enumerate(messages) if message["role"] == "user")
    told = {"role": "user", "content": messages[asked]["content"] + " (a reader said: no emojis at all, please)"}
    return sample("Ann", messages=messages, hindsight=(*messages[:asked], told, *messages[asked + 1 :]))


WORDS = " ".join(f"w{number}" for number in range(300))
LONG = {
    "system prompt": [{"role": "system", "content": WORDS}, {"role": "user", "content": "How are you?"}],
    "question": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": WORDS}],
    "answer of a tool": [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "How are you?"},
        {"role": "tool", "content": WORDS},
    ],
    "everything": [
        {"role": "system", "content": WORDS},
        {"role": "user", "content": WORDS},
        {"role": "tool", "content": WORDS},
    ],
}


@pytest.mark.parametrize("messages", LONG.values(), ids=LONG.keys())
@pytest.mark.parametrize("limit", [64, 200, 700])
def test_a_cut_leaves_student_and_teacher_the_same_but_for_the_feedback(
    tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]], limit: int
) -> None:
    encoded = encode(feedback_on(*messages), tokenizer, max_prompt=limit)

    note = ids(tokenizer, " (a reader said: no emojis at all, please)")
    places = [at for at in range(len(encoded.hindsight)) if encoded.hindsight[at : at + len(note)] == note]
    assert encoded.cut > 0
    assert limit - 16 <= len(encoded.prompt) <= limit
    assert len(places) == 1
    assert encoded.hindsight[: places[0]] + encoded.hindsight[places[0] + len(note) :] == encoded.prompt


def test_the_system_prompt_is_the_same_for_student_and_teacher(tokenizer: PreTrainedTokenizerBase) -> None:
    encoded = encode(feedback_on(*LONG["question"]), tokenizer, max_prompt=5000)

    told = ids(tokenizer, "<system>Be kind.<|end|><user>")
    assert encoded.prompt[: len(told)] == encoded.hindsight[: len(told)] == told


def test_what_is_left_out_is_told(tokenizer: PreTrainedTokenizerBase) -> None:
    long = sample("Ann", WORDS, messages=tuple(LONG["question"]))
    whole = encode(long, tokenizer, max_prompt=5000)

    encoded = encode(long, tokenizer, max_prompt=100, max_reply=50)

    assert encoded.reply == whole.reply[:50]
    assert cuts([encoded, encoded]) == {
        "prompt_tokens_cut": 2 * (len(whole.prompt) - len(encoded.prompt)),
        "reply_tokens_cut": 2 * (len(whole.reply) - 50),
        "replies_respelled": 0,
    }


def test_a_chat_that_the_template_refuses_is_named() -> None:
    strict = random_models.tokenizer()
    strict.chat_template = "{{ raise_exception('only two turns, please') }}"

    with pytest.raises(DistillError, match="refuses this chat: only two turns, please"):
        encode(sample("Ann"), strict, max_prompt=1000)
