"""A trained reply as text, for servers that tell probabilities of pieces of text and know no token ids."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from supervisor.distill.batch import ids, spell

BROKEN = "\N{REPLACEMENT CHARACTER}"  # how a token that ends inside a character is decoded


@dataclass(frozen=True)
class Spelled:
    """Fields of ``job.Probe``."""

    text: str
    starts: tuple[int | None, ...]
    pieces: tuple[str, ...]


def spelled(
    tokenizer: PreTrainedTokenizerBase, prompt: Sequence[int], reply: Sequence[int], wanted: Collection[int]
) -> Spelled:
    """``starts`` of the wanted positions in the reply, None for all others.

    A beginning-of-text token at the very start is left out: a server puts it there itself. None, too, where a server
    could not be asked: it would split the text up to there into other tokens than these, the token is not whole
    characters, or it is a control token, which servers do not spell out.
    """
    opened = tuple(prompt[1:]) if prompt and prompt[0] == tokenizer.bos_token_id else tuple(prompt)
    pieces = tuple(piece(tokenizer, token) for token in reply)
    control = set(tokenizer.all_special_ids)
    starts: list[int | None] = []
    for position, token in enumerate(reply):
        askable = position in wanted and token not in control and BROKEN not in pieces[position]
        starts.append(start_of(tokenizer, (*opened, *reply[:position])) if askable else None)
    return Spelled(spell(tokenizer, (*opened, *reply)), tuple(starts), pieces)


def piece(tokenizer: PreTrainedTokenizerBase, token: int) -> str:
    """The token's own text: after another one, because some tokenizers drop a space at the beginning of a text."""
    before = ids(tokenizer, "a")[-1:]
    return spell(tokenizer, (*before, token))[len(spell(tokenizer, before)) :]


def start_of(tokenizer: PreTrainedTokenizerBase, before: tuple[int, ...]) -> int | None:
    """Characters that these tokens are, if those characters are these tokens again."""
    text = spell(tokenizer, before)
    return len(text) if ids(tokenizer, text) == before else None
