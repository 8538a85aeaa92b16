"""Samples -> token ids, rendered by the model's own chat template.

Prompt and reply are tokenised apart, as the engine did: it tokenised the prompt and sampled the rest. The reply's ids
are those of the text that the model wrote after the prompt, up to the token that closed its turn.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from supervisor.distill.job import Message, Sample
from supervisor.distill.reply import Written, spellings
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
    reply_cut: int = 0  # reply tokens that were left out
    respelled: bool = False  # the engine counted another number of reply tokens: it had split the same text otherwise


def encode(
    sample: Sample, tokenizer: PreTrainedTokenizerBase, *, max_prompt: int, max_reply: int | None = None
) -> Encoded:
    """Raises DistillError when the reply is empty or the template refuses the chat or does not continue its prompt.

    A prompt longer than ``max_prompt`` loses its middle (see ``middle``), the teacher's the same tokens, so that the
    two differ by the feedback only, which is never cut. Of a longer reply the first ``max_reply`` tokens are kept.
    """
    prompt_text = render(tokenizer, sample.messages, sample.tools, sample.template)
    reply, closing, respelled = reply_ids(sample, tokenizer, prompt_text)
    if not reply:
        raise DistillError(f"reply of {sample.id} is empty: nothing to learn from")
    prompt = prompt_ids(tokenizer, prompt_text)
    hindsight = prompt_ids(tokenizer, render(tokenizer, sample.hindsight, sample.tools, sample.template))
    gap = seamless(tokenizer, prompt, max_prompt)
    return Encoded(
        sample=sample,
        prompt=prompt[: gap.start] + prompt[gap.stop :],
        hindsight=alike(hindsight, prompt, gap),
        reply=reply[:max_reply],
        closing=closing,
        cut=len(gap),
        reply_cut=len(reply[max_reply:]) if max_reply else 0,
        respelled=respelled,
    )


def cuts(samples: Sequence[Encoded]) -> dict[str, float]:
    """What was not learned from as it was written, for the lesson's metrics."""
    return {
        "prompt_tokens_cut": float(sum(one.cut for one in samples)),
        "reply_tokens_cut": float(sum(one.reply_cut for one in samples)),
        "replies_respelled": float(sum(one.respelled for one in samples)),
    }


def reply_ids(
    sample: Sample, tokenizer: PreTrainedTokenizerBase, prompt_text: str
) -> tuple[tuple[int, ...], int, bool]:
    """The reply's tokens, the closing token, and whether the engine counted another number of them.

    Templates trim and decorate, engines strip: of the texts that this reply may have been, it is the one with as many
    tokens as the engine counted, or else the nearest; the one that the template writes when nobody counted.
    """
    written = Written(sample, marks(tokenizer), lambda reply: continued(sample, tokenizer, prompt_text, reply))
    texts = spellings(written)
    closing = int(tokenizer.convert_tokens_to_ids(written.closing or str(tokenizer.eos_token)))
    if sample.reply_tokens is None:
        return ids(tokenizer, written.rendered), closing, False
    counted = sample.reply_tokens
    reply = min((ids(tokenizer, text) for text in texts), key=lambda tokens: abs(len(tokens) - counted))
    uncounted = len(reply) - counted  # some engines do not count the closing token
    return reply, closing, uncounted not in ((0, 1) if sample.closed else (0,))


def continued(sample: Sample, tokenizer: PreTrainedTokenizerBase, prompt_text: str, reply: Message) -> str:
    """What the template writes after the prompt once there is a reply."""
    whole = render(tokenizer, (*sample.messages, reply), sample.tools, sample.template, generate=False)
    if not whole.startswith(prompt_text):
        raise DistillError(
            f"the chat template renders {sample.id} with its reply differently from its prompt; "
            "this model's template is not supported for lessons"
        )
    return whole[len(prompt_text) :]


def marks(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """Tokens that are no text: one of them closes a turn."""
    added = tokenizer.added_tokens_decoder.values()
    return tuple(token.content for token in added if token.special)


def render(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    tools: Sequence[Any],
    values: Mapping[str, Any] | None = None,
    *,
    generate: bool = True,
) -> str:
    """``values``: what the template is told beside the chat. Raises DistillError when it refuses the chat."""

    def written(chat: Sequence[Message]) -> str:
        made = tokenizer.apply_chat_template(
            list(chat), tools=list(tools) or None, add_generation_prompt=generate, tokenize=False, **(values or {})
        )
        return str(made)

    try:
        return written(messages)
    except TemplateError as exc:
        refused = exc
    try:
        return written(told_by_the_user(messages))
    except TemplateError:
        raise DistillError(f"the model's chat template refuses this chat: {refused}") from refused


def told_by_the_user(messages: Sequence[Message]) -> Sequence[Message]:
    """The system prompt in front of the first message: how llama.cpp chats with models that know no such role."""
    if len(messages) < 2 or messages[0]["role"] != "system":
        return messages
    first = {**messages[1], "content": f"{messages[0]['content']}\n{messages[1]['content']}"}
    return (first, *messages[2:])


def prompt_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    """With the one token at the beginning that the tokenizer adds itself where the template does not write it."""
    tokens = ids(tokenizer, text)
    own = tuple(tokenizer("")["input_ids"][:1])
    return tokens if own != (tokenizer.bos_token_id,) or tokens[:1] == own else own + tokens


def ids(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def seamless(tokenizer: PreTrainedTokenizerBase, prompt: tuple[int, ...], limit: int) -> range:
    """``middle``, a few tokens longer if only then the rest's text is split into these very tokens again.

    Where head and tail meet, two tokens may otherwise be read as one by a server that is sent the text.
    """
    for less in range(min(SEAMS, limit)):
        gap = middle(len(prompt), limit - less)
        short = prompt[: gap.start] + prompt[gap.stop :]
        if not gap or ids(tokenizer, spell(tokenizer, short)) == short:
            return gap
    return middle(len(prompt), limit)


def middle(length: int, limit: int) -> range:
    """The places to leave out of so many tokens: the first quarter of ``limit`` (the system prompt) and the last three
    (the question) are kept."""
    head = min(limit // 4, length)
    return range(head, max(head, length - (limit - head)))


def alike(other: tuple[int, ...], prompt: tuple[int, ...], gap: range) -> tuple[int, ...]:
    """``other`` without the tokens that it shares with the prompt's gap; what is its own, the feedback, stays."""
    shared = shared_beginning(prompt, other)  # tokens
    rest = min(len(prompt), len(other)) - shared
    ending = shared_beginning(prompt[::-1][:rest], other[::-1][:rest])  # tokens
    shift, tail = len(other) - len(prompt), len(prompt) - ending
    left = other[: min(gap.start, shared)]
    between = other[min(gap.stop, shared) : max(gap.start, tail) + shift]
    return left + between + other[max(gap.stop, tail) + shift :]


def shared_beginning(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens are the same."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))


def spell(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int]) -> str:
    """The text that these tokens are, special ones written out."""
    text = tokenizer.decode(list(tokens), skip_special_tokens=False, clean_up_tokenization_spaces=False)
    assert isinstance(text, str)
    return text
