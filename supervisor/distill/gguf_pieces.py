"""The tokenizer of Llama 2, Mistral, Gemma and Phi-3 files for transformers: pieces with scores, as SentencePiece has.

llama.cpp joins the two neighbours whose union is the piece of the highest score, the leftmost first, until none is
left; what is no piece then is spelled in bytes. With one rank per score, byte-pair merges do the same.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

import gguf
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers

from supervisor.distill.gguf_read import GgufModel
from supervisor.errors import DistillError

SPACE = "\u2581"
SPECIAL = (gguf.TokenType.CONTROL, gguf.TokenType.UNKNOWN)
WHOLE = (*SPECIAL, gguf.TokenType.USER_DEFINED)  # found before anything is joined
SWALLOWS_SPACE = ("phi-3", "phi3")  # llama.cpp knows these models by their name
SWALLOW_NOTHING = ("<unk>", "<s>", "<|endoftext|>")


def pieces(model: GgufModel, tokens: Sequence[str], types: Sequence[int]) -> Tokenizer:
    """Raises DistillError where the scores leave open what is joined first."""
    known = {token: number for number, token in enumerate(tokens)}
    unknown = next((token for token, kind in zip(tokens, types, strict=True) if kind == gguf.TokenType.UNKNOWN), None)
    merges = ranked(model, known, tokens, types)
    tokenizer = Tokenizer(models.BPE(vocab=known, merges=merges, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    prefixed = model.get("tokenizer.ggml.add_space_prefix") is not False
    spaces = normalizers.Replace(" ", SPACE)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), spaces]) if prefixed else spaces
    whole = [(token, kind) for token, kind in zip(tokens, types, strict=True) if kind in WHOLE]
    tokenizer.decoder = spelling([token for token, _ in whole], prefixed=prefixed)
    greedy = any(name in str(model.get("general.name")).lower() for name in SWALLOWS_SPACE)
    tokenizer.add_tokens([added(token, kind, greedy) for token, kind in whole])
    return tokenizer


def added(token: str, kind: int, greedy: bool) -> AddedToken:
    swallows = token == "</s>" or (greedy and token not in SWALLOW_NOTHING)  # noqa: S105 - a token of a text
    return AddedToken(token, special=kind in SPECIAL, normalized=False, rstrip=greedy and swallows)


def ranked(
    model: GgufModel, known: dict[str, int], tokens: Sequence[str], types: Sequence[int]
) -> list[tuple[str, str]]:
    """The pairs that may be joined, in the order of the scores of what they become."""
    scores = model.get("tokenizer.ggml.scores")
    if not isinstance(scores, list) or len(scores) != len(tokens):
        raise DistillError(f"{model.path} has no score for each of its tokens; it does not carry its tokenizer whole")
    joined = [number for number, kind in enumerate(types) if kind not in WHOLE and any(splits(tokens[number], known))]
    joined.sort(key=lambda number: -scores[number])
    for one, other in pairwise(joined):
        if scores[one] == scores[other]:
            raise DistillError(
                f"{model.path} gives {tokens[one]!r} and {tokens[other]!r} the same score, so lessons could split text "
                "otherwise than the engine; choose another model, or a folder with the Hugging Face files and the GGUF"
            )
    return [pair for number in joined for pair in splits(tokens[number], known)]


def splits(token: str, known: dict[str, int]) -> Iterator[tuple[str, str]]:
    """The longest left part first: in a row of one character that is the leftmost."""
    for end in range(len(token) - 1, 0, -1):
        if token[:end] in known and token[end:] in known:
            yield token[:end], token[end:]


def spelling(special: Sequence[str], *, prefixed: bool) -> decoders.Decoder:
    """Text that is split into the same tokens again: a space that was put in front is taken away again."""
    steps = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if prefixed:
        steps.append(decoders.Strip(" ", 1, 0))
        if special:
            after = "|".join(re.escape(token) for token in special)
            steps.append(decoders.Replace(Regex(f"(?<={after}) "), ""))
    return decoders.Sequence(steps)
