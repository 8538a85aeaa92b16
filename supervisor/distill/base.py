"""The base model and its tokenizer from files on this machine: a Hugging Face folder or a GGUF. Nothing is fetched."""

from math import prod
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from supervisor.distill.gguf_base import model_from
from supervisor.distill.gguf_config import config_of
from supervisor.distill.gguf_read import GgufModel
from supervisor.distill.gguf_vocabulary import vocabulary
from supervisor.distill.memory import free_memory, wants_packing
from supervisor.errors import DistillError

FLOAT32_BELOW = 1_000_000_000  # parameters; above, bfloat16 halves the memory and the rounding no longer matters


def load_base(
    path: Path, *, packed: bool | None = None, context: int | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Frozen, in evaluation mode, on the CPU. Raises DistillError when there is no usable model.

    ``packed``: whether a GGUF's matrices stay in it as they are; None: if memory is too small for the dense model.
    ``context``: tokens that the engine keeps, where a model's rotation depends on that (Phi-3).
    """
    model, tokenizer = from_gguf(path, packed=packed, context=context) if path.is_file() else from_folder(path)
    if tokenizer.eos_token is None:
        raise DistillError(f"base model {path}: its tokenizer names no end-of-turn token (eos_token)")
    model.requires_grad_(False)
    return model.eval(), tokenizer


def from_folder(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    disable_progress_bar()  # ours says more, and a log file is no terminal
    weights = sum(path.stat().st_size for path in folder.glob("*.safetensors"))  # bytes, two per parameter as a rule
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=precision(weights // 2))
    except (OSError, ValueError, KeyError) as exc:
        raise DistillError(f"base model {folder} cannot be loaded: {exc}") from exc
    return model, tokenizer


def from_gguf(
    path: Path, *, packed: bool | None = None, context: int | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    source = GgufModel(path)
    config_of(source)  # first, with the tokenizer: these are quick to fail
    tokenizer = vocabulary(source)
    numbers = sum(prod(tensor.shape) for tensor in source.tensors.values())
    dtype = precision(numbers)
    if packed is None:
        packed = wants_packing(numbers * dtype.itemsize, free_memory())
    return model_from(source, dtype, packed=packed, context=context), tokenizer


def precision(parameters: int) -> torch.dtype:
    return torch.float32 if parameters < FLOAT32_BELOW else torch.bfloat16
