"""The base model and its tokenizer from files on this machine: a Hugging Face folder or a GGUF. Nothing is fetched."""

from math import prod
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from supervisor.distill.device import CPU, precision
from supervisor.distill.gguf_base import model_from
from supervisor.distill.gguf_config import config_of
from supervisor.distill.gguf_read import GgufModel
from supervisor.distill.memory import free_memory, wants_packing
from supervisor.distill.tokenizer import load_tokenizer
from supervisor.errors import DistillError


def load_base(
    path: Path, *, device: torch.device = CPU, packed: bool | None = None, context: int | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Frozen, in evaluation mode, on ``device``. Raises DistillError when there is no usable model.

    ``packed``: whether a GGUF's matrices stay in it as they are; None: if memory is too small for the dense model.
    ``context``: tokens that the engine keeps, where a model's rotation depends on that (Phi-3).
    """
    if path.is_file():
        config_of(GgufModel(path))  # first: a model that cannot be learned from says so at once
    tokenizer = load_tokenizer(path)
    model = from_gguf(path, device, packed=packed, context=context) if path.is_file() else from_folder(path, device)
    model.requires_grad_(False)
    return model.to(device).eval(), tokenizer


def from_folder(folder: Path, device: torch.device) -> PreTrainedModel:
    """In memory; float32 only where there is room for it."""
    disable_progress_bar()  # ours says more, and a log file is no terminal
    weights = sum(path.stat().st_size for path in folder.glob("*.safetensors"))  # bytes, two per parameter as a rule
    try:
        dtype = precision(weights // 2, device)
        if wants_packing(weights // 2 * dtype.itemsize, free_memory()):
            dtype = torch.bfloat16  # a processor that does not know it is slow then, but a lesson it is
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=dtype)
    except (OSError, ValueError, KeyError) as exc:
        raise DistillError(f"base model {folder} cannot be loaded: {exc}") from exc
    return model


def from_gguf(path: Path, device: torch.device, *, packed: bool | None, context: int | None) -> PreTrainedModel:
    source = GgufModel(path)
    numbers = sum(prod(tensor.shape) for tensor in source.tensors.values())
    dtype = precision(numbers, device)
    if packed is None:
        packed = wants_packing(numbers * dtype.itemsize, free_memory())
    return model_from(source, dtype, packed=packed, context=context)
