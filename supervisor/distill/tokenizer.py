"""The base model's tokenizer and chat template, from a Hugging Face folder or the GGUF itself."""

from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from supervisor.distill.gguf_read import GgufModel
from supervisor.distill.gguf_vocabulary import vocabulary
from supervisor.errors import DistillError


def load_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """Raises DistillError when there is none that a lesson can use."""
    tokenizer = vocabulary(GgufModel(path)) if path.is_file() else from_folder(path)
    if tokenizer.eos_token is None:
        raise DistillError(f"base model {path}: its tokenizer names no end-of-turn token (eos_token)")
    return tokenizer


def from_folder(folder: Path) -> PreTrainedTokenizerBase:
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as exc:
        raise DistillError(f"base model {folder} cannot be loaded: {exc}") from exc
