"""Samples -> token ids, rendered by the model's own chat template.

The reply's ids are those of the text that the template writes after the generation prompt, up to the token that closes
the turn. Prompt and reply are tokenised apart, as the engine did: it tokenised the prompt and sampled the rest.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from supervisor.distill.job import Message, Sample
from supervisor.errors import DistillError

SEAMS = 16  # places that are tried to cut a long prompt


@dataclass(frozen=True)
class Encoded:
    """One sample as token ids. ``reply`` ends with the closing token when the reply was whole."""

    sample: Sample
    prompt: tuple[int, ...]
    hindsight: tuple[int, ...]
    reply: tuple[int, ...]
    closing: int  # the token that closes a turn
    cut: int  # prompt tokens that were left out


def encode(sample: Sample, tokenizer: PreTrainedTokenizerBase, *, max_prompt: int) -> Encoded:
    """Raises DistillError when the reply is empty or the template does not continue its own prompt."""
    prompt_text = render(tokenizer, sample.messages, sample.tools)
    reply_ids = ids(tokenizer, reply_text(sample, tokenizer, prompt_text))
    if not reply_ids:
        raise DistillError(f"reply of {sample.id} is empty: nothing to learn from")
    prompt = ids(tokenizer, prompt_text)
    hindsight = ids(tokenizer, render(tokenizer, sample.hindsight, sample.tools))
    shortened = shorten(tokenizer, prompt, max_prompt)
    return Encoded(
        sample=sample,
        prompt=shortened,
        hindsight=head_and_tail(hindsight, max_prompt + len(hindsight) - len(prompt)),
        reply=reply_ids,
        closing=int(tokenizer.eos_token_id),
        cut=len(prompt) - len(shortened),
    )


def reply_text(sample: Sample, tokenizer: PreTrainedTokenizerBase, prompt_text: str) -> str:
    """What the model wrote after the generation prompt, closing token included when the reply was whole."""
    whole = render(tokenizer, (*sample.messages, sample.reply), sample.tools, generate=False)
    if not whole.startswith(prompt_text):
        raise DistillError(
            f"the chat template renders {sample.id} with its reply differently from its prompt; "
            "this model's template is not supported for lessons"
        )
    text = whole[len(prompt_text) :]
    end = text.rfind(str(tokenizer.eos_token))
    if end < 0:
        return text
    return text[: end + len(str(tokenizer.eos_token))] if sample.closed else text[:end]


def render(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], tools: Sequence[Any], *, generate: bool = True
) -> str:
    return str(
        tokenizer.apply_chat_template(
            list(messages), tools=list(tools) or None, add_generation_prompt=generate, tokenize=False
        )
    )


def ids(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def shorten(tokenizer: PreTrainedTokenizerBase, prompt: tuple[int, ...], limit: int) -> tuple[int, ...]:
    """``head_and_tail``, a few tokens shorter if only then its text is split into these very tokens again.

    Where head and tail meet, two tokens may otherwise be read as one by a server that is sent the text.
    """
    for less in range(min(SEAMS, limit)):
        short = head_and_tail(prompt, limit - less)
        if len(short) == len(prompt) or ids(tokenizer, spell(tokenizer, short)) == short:
            return short
    return head_and_tail(prompt, limit)


def spell(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int]) -> str:
    """The text that these tokens are, special ones written out."""
    text = tokenizer.decode(list(tokens), skip_special_tokens=False, clean_up_tokenization_spaces=False)
    assert isinstance(text, str)
    return text


def head_and_tail(tokens: tuple[int, ...], limit: int) -> tuple[int, ...]:
    """At most ``limit`` tokens: the first quarter (the system prompt) and the last three (the question) are kept."""
    if len(tokens) <= limit:
        return tokens
    head = limit // 4
    return tokens[:head] + tokens[len(tokens) - (limit - head) :]
