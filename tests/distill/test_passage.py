"""A reply spelled out as text says where each token can be asked for, and where none can."""

from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerBase

from supervisor.distill.base import load_base
from supervisor.distill.batch import encode, ids
from supervisor.distill.gguf import export_model
from supervisor.distill.passage import spelled
from tests.distill import random_models
from tests.distill.lessons import TEMPLATE, sample

TINY_CHAT = Path(__file__).parents[2] / "models/tiny-chat/tiny-chat.gguf"


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return load_base(TINY_CHAT)[1]


def test_what_stands_before_a_token_is_split_into_the_tokens_before_it(tokenizer: PreTrainedTokenizerBase) -> None:
    encoded = encode(sample("Ann", "Hello, I am Claw.\n\nNice to meet you"), tokenizer, max_prompt=1000)

    told = spelled(tokenizer, encoded.prompt, encoded.reply, range(len(encoded.reply)))

    assert told.text == tokenizer.decode([*encoded.prompt, *encoded.reply])
    asked = [(place, start) for place, start in enumerate(told.starts) if start is not None]
    assert len(asked) > 5
    for place, start in asked:
        assert ids(tokenizer, told.text[:start]) == (*encoded.prompt, *encoded.reply[:place])
        assert told.text[start:].startswith(told.pieces[place])


def test_tokens_that_a_server_does_not_spell_out_cannot_be_asked_for(tokenizer: PreTrainedTokenizerBase) -> None:
    reply = (*ids(tokenizer, "Hi 🦖"), tokenizer.eos_token_id)

    told = spelled(tokenizer, ids(tokenizer, "x"), reply, range(len(reply)))

    broken = [place for place, piece in enumerate(told.pieces) if "\ufffd" in piece]
    assert broken, "no token of this emoji ends inside a character; take a rarer one"
    assert [told.starts[place] for place in broken] == [None] * len(broken)
    assert told.starts[-1] is None  # the token that closes the turn
    assert told.starts[0] == 1


def test_a_text_that_would_be_split_otherwise_cannot_be_asked_for(tokenizer: PreTrainedTokenizerBase) -> None:
    letters = tuple(token for letter in "the" for token in ids(tokenizer, letter))

    told = spelled(tokenizer, (), letters, range(3))

    assert ids(tokenizer, "the") != letters
    assert told.starts[0] == 0
    assert told.starts[2] is None or ids(tokenizer, "th") == letters[:2]


def test_only_the_wanted_tokens_are_worked_out(tokenizer: PreTrainedTokenizerBase) -> None:
    reply = ids(tokenizer, "one two three")

    told = spelled(tokenizer, (), reply, {1})

    assert [start is not None for start in told.starts] == [place == 1 for place in range(len(reply))]


def test_a_beginning_that_servers_add_themselves_is_left_out(tokenizer: PreTrainedTokenizerBase) -> None:
    prompt, reply = ids(tokenizer, "<|endoftext|>Hi"), ids(tokenizer, " you")
    tokenizer.bos_token = "<|endoftext|>"
    try:
        told = spelled(tokenizer, prompt, reply, {0})
    finally:
        tokenizer.bos_token = None

    assert (told.text, told.starts[0]) == ("Hi you", 2)


def test_a_prompt_is_cut_where_its_text_is_still_split_alike(tokenizer: PreTrainedTokenizerBase) -> None:
    text = "tomato potato banana telephone " * 40
    for limit in range(64, 90):
        long = sample("Ann", messages=({"role": "user", "content": text},))

        encoded = encode(long, tokenizer, max_prompt=limit)

        assert limit - 16 < len(encoded.prompt) <= limit
        assert ids(tokenizer, tokenizer.decode(encoded.prompt)) == encoded.prompt


def test_a_space_at_the_beginning_belongs_to_the_piece(tmp_path: Path) -> None:
    random_models.llama(tmp_path)
    random_models.scored_pieces(tmp_path, TEMPLATE, prefixed=True)
    export_model(tmp_path, tmp_path / "model.gguf")
    scored = load_base(tmp_path / "model.gguf")[1]

    told = spelled(scored, (), ids(scored, "the the"), range(2))

    assert told.pieces == (" the", " the")
    assert told.text == "the the"
