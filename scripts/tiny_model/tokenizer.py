"""The byte-level BPE and the ChatML template of the tiny model."""

from __future__ import annotations

import random
from collections.abc import Iterator

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from scripts.tiny_model.chats import Chat, sample_chat

VOCABULARY = 2048
END_OF_TEXT, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
# Accepts string content, lists of parts and a missing content; tool calls and results are shown as text.
CHAT_TEMPLATE = """\
{%- macro text(content) -%}
    {%- if content is string -%}
        {{- content -}}
    {%- elif content -%}
        {%- for part in content -%}
            {%- if part is string -%}{{- part -}}{%- elif part.text is defined -%}{{- part.text -}}{%- endif -%}
        {%- endfor -%}
    {%- endif -%}
{%- endmacro -%}
{%- for message in messages -%}
    {{- '<|im_start|>' + message.role + '\\n' + text(message.content) -}}
    {%- if message.tool_calls -%}
        {%- for call in message.tool_calls -%}
            {%- set call = call.function or call -%}
            {{- '\\n<tool_call>\\n{"name": "' + call.name + '", "arguments": ' -}}
            {{- (call.arguments if call.arguments is string else call.arguments | tojson) + '}\\n</tool_call>' -}}
        {%- endfor -%}
    {%- endif -%}
    {{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""


def render(chat: Chat) -> tuple[str, list[tuple[int, int, float]]]:
    """The chat as ChatML, and the (begin, end, weight) of the characters that carry loss."""
    text = ""
    spans: list[tuple[int, int, float]] = []
    for message in chat.messages:
        text += f"{START}{message.role}\n"
        begin = len(text) + message.skip
        text += message.content
        end = len(text) + (len(END) if message.closed else 0)
        if message.role == "assistant":
            spans.append((begin, end, message.weight))
        text += END + "\n"
    return text, spans


def train_tokenizer(seed: int, chats: int = 6000) -> PreTrainedTokenizerFast:
    """A tokenizer fitted to generated chats; the same seed gives the same vocabulary."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        min_frequency=2,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in (END_OF_TEXT, START, END)],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(seed, chats), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=END_OF_TEXT,
        model_max_length=4096,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )


def _texts(seed: int, chats: int) -> Iterator[str]:
    rng = random.Random(seed)
    for _ in range(chats):
        for message in sample_chat(rng).messages:
            yield message.content
            yield message.role
