"""The tokenizer that a GGUF carries, for transformers: byte-level BPE whose split of text we know, or scored pieces.

The reverse of ``gguf_tokenizer``. A split of another name would load and give other tokens than the engine's, so it is
refused.
"""

from collections.abc import Container, Sequence
from pathlib import Path

import gguf
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from supervisor.distill import chatml
from supervisor.distill.gguf_pieces import pieces
from supervisor.distill.gguf_read import GgufModel
from supervisor.distill.gguf_tokenizer import SPLITS
from supervisor.errors import DistillError

PATTERNS = {name: pattern for pattern, name in SPLITS.items()}
SAME = {"llama3": "llama-bpe", "llama-v3": "llama-bpe", "deepseek-r1-qwen": "qwen2"}  # other names of a split
WHOLE_WORDS_FIRST = "llama-bpe"  # a piece of text that is a token is taken whole, without merging
SPECIAL = (gguf.TokenType.CONTROL, gguf.TokenType.UNKNOWN)
ADDED = (*SPECIAL, gguf.TokenType.USER_DEFINED)


def vocabulary(model: GgufModel) -> PreTrainedTokenizerBase:
    """Raises DistillError when the file has no chat template, or a tokenizer that we cannot rebuild."""
    tokens, types = model.strings("tokenizer.ggml.tokens"), model.integers("tokenizer.ggml.token_type")
    scored = model.get("tokenizer.ggml.model") == "llama"
    bos, template = named(model, tokens, "bos"), chat_template(model, tokens)
    in_front = model.get("tokenizer.ggml.add_bos_token")
    if in_front is None:  # what llama.cpp does then
        in_front = scored or split_name(model) == WHOLE_WORDS_FIRST
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=pieces(model, tokens, types) if scored else byte_level(model, tokens, types),
        bos_token=bos,
        eos_token=closing(model, tokens, template),
        pad_token=named(model, tokens, "padding"),
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = opened(template, bos) if in_front else template
    return tokenizer


def opened(template: str, bos: str | None) -> str:
    """The engine puts the beginning-of-text token there where the template does not."""
    if bos is None or bos in template or "bos_token" in template:
        return template
    return "{{ bos_token }}" + template


def chat_template(model: GgufModel, tokens: Sequence[str]) -> str:
    template = model.get("tokenizer.chat_template")
    if template:
        return str(template)
    if chatml.fits(set(tokens)):
        return chatml.TEMPLATE
    raise DistillError(
        f"{model.path} carries no chat template, so a lesson cannot know how a chat looks to it; "
        "pull a build of the model that has one, for example its GGUF from hf.co"
    )


def byte_level(model: GgufModel, tokens: Sequence[str], types: Sequence[int]) -> Tokenizer:
    split = split_name(model)
    known = {token: number for number, token in enumerate(tokens) if types[number] != gguf.TokenType.UNUSED}
    merges = [pair(merge, known, model.path) for merge in model.strings("tokenizer.ggml.merges")]
    tokenizer = Tokenizer(models.BPE(vocab=known, merges=merges, ignore_merges=split == WHOLE_WORDS_FIRST))
    pattern = PATTERNS.get(split)
    tokenizer.pre_tokenizer = (
        pre_tokenizers.ByteLevel(add_prefix_space=False)
        if pattern is None
        else pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(pattern), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    )
    tokenizer.decoder = decoders.ByteLevel()
    whole = [(token, kind) for token, kind in zip(tokens, types, strict=True) if kind in ADDED]
    tokenizer.add_tokens([AddedToken(token, special=kind in SPECIAL, normalized=False) for token, kind in whole])
    return tokenizer


def split_name(model: GgufModel) -> str:
    kind, name = model.get("tokenizer.ggml.model"), str(model.get("tokenizer.ggml.pre"))
    name = SAME.get(name, name)
    if kind != "gpt2" or name not in {"gpt-2", *PATTERNS}:
        raise DistillError(
            f"{model.path} splits text by {kind}/{name}; lessons from a GGUF know llama, and gpt2 with gpt-2, "
            f"{', '.join(PATTERNS)}; choose another model, or a folder with the Hugging Face files beside the GGUF"
        )
    return name


def pair(merge: str, known: Container[str], path: Path) -> tuple[str, str]:
    left, _, right = merge.partition(" ")
    if left not in known or right not in known or left + right not in known:
        raise DistillError(f"{path} has a merge rule {merge!r} for tokens that it does not have; download it again")
    return left, right


def named(model: GgufModel, tokens: Sequence[str], what: str) -> str | None:
    number = model.get(f"tokenizer.ggml.{what}_token_id")
    return tokens[int(number)] if number is not None and int(number) < len(tokens) else None


def closing(model: GgufModel, tokens: Sequence[str], template: str) -> str:
    """The token that closes a turn: of end-of-turn and end-of-text, the one that the chat template writes."""
    known = [token for what in ("eot", "eos") if (token := named(model, tokens, what)) is not None]
    if not known:
        raise DistillError(f"{model.path} names no token that ends a turn; it is not a chat model")
    return next((token for token in known if token in template), known[-1])
