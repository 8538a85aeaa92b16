"""The base model and its tokenizer from a Hugging Face folder on this machine; nothing is fetched."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from supervisor.errors import DistillError

FLOAT32_BELOW = 1_000_000_000  # parameters; above, bfloat16 halves the memory and the rounding no longer matters


def load_base(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Frozen, in evaluation mode, on the CPU. Raises DistillError when the folder holds no usable model."""
    disable_progress_bar()  # ours says more, and a log file is no terminal
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=precision(folder))
    except (OSError, ValueError, KeyError) as exc:
        raise DistillError(f"base model {folder} cannot be loaded: {exc}") from exc
    if tokenizer.eos_token is None:
        raise DistillError(f"base model {folder}: its tokenizer names no end-of-turn token (eos_token)")
    model.requires_grad_(False)
    return model.eval(), tokenizer


def precision(folder: Path) -> torch.dtype:
    weights = sum(path.stat().st_size for path in folder.glob("*.safetensors"))  # bytes, two per parameter as a rule
    return torch.float32 if weights < 2 * FLOAT32_BELOW else torch.bfloat16
