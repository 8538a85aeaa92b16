"""A BPE tokenizer of a Hugging Face folder as GGUF metadata: byte-level, or of pieces with bytes as the last resort.

llama.cpp splits text before it merges, by a rule that the file only names. A wrong or missing name loads and
gives wrong tokens, so a split we do not recognise is refused.
"""

import json
import re
from pathlib import Path
from typing import Any

import gguf

from supervisor.errors import GgufError

_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
SPLITS = {_QWEN2: "qwen2", _QWEN2.replace(r"\p{N}|", r"\p{N}{1,3}|", 1): "llama-bpe"}


def describe_tokenizer(writer: gguf.GGUFWriter, folder: Path, rows: int) -> None:
    """Add tokens, merges, special ids and the chat template; ``rows`` is the height of the embedding."""
    stored = _json(folder / "tokenizer.json", required=True)
    settings = _json(folder / "tokenizer_config.json")
    if stored["model"].get("type") != "BPE":
        raise GgufError(f"{folder}: only BPE tokenizers can be exported")
    ids = _token_ids(stored, rows)
    if stored["model"].get("byte_fallback"):
        _describe_pieces(writer, stored, ids, folder)
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(_split_name(stored, folder))
        writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in stored["model"]["merges"]])
    writer.add_token_list([token for token, _ in ids])
    writer.add_token_types([kind for _, kind in ids])
    _describe_special(writer, stored, settings, {token: number for number, (token, _) in enumerate(ids)})
    template = _chat_template(folder, settings)
    if template is not None:
        writer.add_chat_template(template)


def _json(path: Path, *, required: bool = False) -> dict[str, Any]:
    if not path.is_file():
        if required:
            raise GgufError(f"{path} is missing; save the tokenizer beside the model")
        return {}
    parsed: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return parsed


def _token_ids(stored: dict[str, Any], rows: int) -> list[tuple[str, int]]:
    """(token, type) for every embedding row."""
    fallback = stored["model"].get("byte_fallback")
    tokens = {
        number: (token, gguf.TokenType.BYTE if fallback and _BYTE.fullmatch(token) else gguf.TokenType.NORMAL)
        for token, number in stored["model"]["vocab"].items()
    }
    for added in stored.get("added_tokens", []):
        kind = gguf.TokenType.CONTROL if added["special"] else gguf.TokenType.USER_DEFINED
        unknown = fallback and added["content"] == stored["model"].get("unk_token")
        tokens[added["id"]] = (added["content"], gguf.TokenType.UNKNOWN if unknown else kind)
    if max(tokens) >= rows:
        raise GgufError(
            f"the tokenizer has ids up to {max(tokens)}, the model only {rows} rows; they do not belong together"
        )
    return [tokens.get(number, (f"[PAD{number}]", gguf.TokenType.UNUSED)) for number in range(rows)]


def _describe_pieces(writer: gguf.GGUFWriter, stored: dict[str, Any], ids: list[tuple[str, int]], folder: Path) -> None:
    """llama.cpp knows no merges here, but joins by score: a piece's is the rank of the first merge that makes it."""
    steps = stored.get("normalizer") or {}
    steps = steps.get("normalizers", [steps])
    if [step.get("type") for step in steps] not in (["Replace"], ["Prepend", "Replace"]) or stored.get("pre_tokenizer"):
        raise GgufError(f"{folder / 'tokenizer.json'}: these steps before the merges cannot be exported: {steps}")
    scores: dict[str, float] = {}
    for rank, merge in enumerate(stored["model"]["merges"]):
        scores.setdefault("".join(merge.split(" ") if isinstance(merge, str) else merge), -float(rank + 1))
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_scores([scores.get(token, -float(len(scores) + number)) for number, (token, _) in enumerate(ids)])
    writer.add_add_space_prefix(len(steps) > 1)


def _split_name(stored: dict[str, Any], folder: Path) -> str:
    steps = stored.get("pre_tokenizer") or {}
    steps = steps.get("pretokenizers", [steps])
    kinds = [step.get("type") for step in steps]
    if kinds == ["ByteLevel"] and steps[0].get("use_regex", True) and not steps[0].get("add_prefix_space"):
        return "gpt-2"
    if kinds == ["Split", "ByteLevel"]:
        pattern = steps[0]["pattern"].get("Regex")
        if pattern in SPLITS:
            return SPLITS[pattern]
    raise GgufError(
        f"{folder / 'tokenizer.json'}: this way to split text ({', '.join(map(str, kinds))}) has no name in llama.cpp"
        " that we know; add it once both give equal tokens"
    )


def _describe_special(
    writer: gguf.GGUFWriter, stored: dict[str, Any], settings: dict[str, Any], ids: dict[str, int]
) -> None:
    for key, add in (
        ("bos_token", writer.add_bos_token_id),
        ("eos_token", writer.add_eos_token_id),
        ("pad_token", writer.add_pad_token_id),
        ("unk_token", writer.add_unk_token_id),
    ):
        token = settings.get(key)
        token = token["content"] if isinstance(token, dict) else token
        if token is not None:
            add(ids[token])
    # A BOS that the tokenizer puts in front by itself must be put there by llama.cpp as well.
    bos = settings.get("bos_token")
    in_front = bos is not None and json.dumps(bos) in json.dumps(stored.get("post_processor"))
    writer.add_add_bos_token(bool(settings.get("add_bos_token", in_front)))


def _chat_template(folder: Path, settings: dict[str, Any]) -> str | None:
    """transformers 5 saves it as a file, older versions inside the settings."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    template = settings.get("chat_template")
    return template if isinstance(template, str) else None
