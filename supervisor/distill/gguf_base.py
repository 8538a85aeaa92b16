"""A base model straight from the GGUF that is served: no second download, and just those rounded weights.

Memory: the whole model in the chosen precision, and a few thousand rows in float32 while they are copied.
"""

from collections.abc import Iterator
from typing import Any

import gguf
import numpy as np
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from supervisor.distill.gguf_model import ARCHITECTURES, rotated_heads
from supervisor.distill.gguf_read import GgufModel
from supervisor.errors import DistillError

KINDS: dict[str, tuple[type[PreTrainedConfig], type[PreTrainedModel]]] = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
}
ROWS = 4096  # at a time
ROPE_FACTORS = "rope_freqs.weight"  # what Llama 3.1 divides its rotation frequencies by


def model_from(source: GgufModel, dtype: torch.dtype) -> PreTrainedModel:
    """Raises DistillError naming what this loader does not know: nothing is left out silently."""
    config, kind = config_of(source), KINDS[source.architecture][1]
    with torch.device("meta"):
        model = kind(config)
    model.model.rotary_emb = type(model.model.rotary_emb)(config)  # computed, not loaded
    names = gguf.get_tensor_name_map(ARCHITECTURES[source.architecture], config.num_hidden_layers)
    left = set(source.tensors)
    for module, parameter, ours in parameters(model):
        name = names.get_name(ours, try_suffixes=(".weight", ".bias"))
        if name not in source.tensors:
            raise DistillError(f"{source.path} has no {name or ours}; it is not a whole {source.architecture} model")
        values = loaded(source, name, config, dtype)
        if values.shape != getattr(module, parameter).shape:
            raise DistillError(f"{source.path}: {name} is {tuple(values.shape)}, which its own description denies")
        setattr(module, parameter, torch.nn.Parameter(values, requires_grad=False))
        left.discard(name)
    if ROPE_FACTORS in left:
        factors = torch.from_numpy(source.load(ROPE_FACTORS))
        model.model.rotary_emb.inv_freq /= factors
        model.model.rotary_emb.original_inv_freq = model.model.rotary_emb.inv_freq.clone()
        left.discard(ROPE_FACTORS)
    if left:
        raise DistillError(
            f"{source.path} holds {len(left)} tensors that lessons do not know, {min(left)} for one; "
            f"it is not a plain {source.architecture} model, choose another"
        )
    model.tie_weights()
    return model


def parameters(model: PreTrainedModel) -> Iterator[tuple[torch.nn.Module, str, str]]:
    """Each parameter as (its module, its name there, its full name); a tied one once."""
    for full, _ in list(model.named_parameters()):
        path, _, name = full.rpartition(".")
        yield model.get_submodule(path), name, full


def config_of(source: GgufModel) -> PreTrainedConfig:
    if source.architecture not in KINDS:
        raise DistillError(
            f"{source.path} has architecture {source.architecture!r}; lessons from a GGUF are known for "
            f"{', '.join(sorted(KINDS))}. It serves, but to teach it choose another model, or a folder with the "
            "Hugging Face files beside the GGUF"
        )
    if source.of_model("expert_count"):
        raise DistillError(
            f"{source.path} is a mixture of experts, which lessons do not know yet; choose another model"
        )
    if "token_embd.weight" not in source.tensors:
        raise DistillError(f"{source.path} has no token_embd.weight; it is not a whole model")
    heads = source.number("attention.head_count")
    width = source.of_model("attention.key_length") or source.number("embedding_length") // heads
    turned = source.of_model("rope.dimension_count") or width
    if int(turned) != int(width):
        raise DistillError(f"{source.path} rotates {turned} of {width} values of a head, which lessons do not know")
    return KINDS[source.architecture][0](
        vocab_size=source.tensors["token_embd.weight"].shape[0],
        hidden_size=source.number("embedding_length"),
        intermediate_size=source.number("feed_forward_length"),
        num_hidden_layers=source.number("block_count"),
        num_attention_heads=heads,
        num_key_value_heads=source.number("attention.head_count_kv")
        if source.of_model("attention.head_count_kv")
        else heads,
        head_dim=int(width),
        max_position_embeddings=source.number("context_length"),
        rms_norm_eps=float(source.of_model("attention.layer_norm_rms_epsilon")),
        rope_parameters=rope(source),
        tie_word_embeddings="output.weight" not in source.tensors,
    )


def rope(source: GgufModel) -> dict[str, Any]:
    theta = float(source.of_model("rope.freq_base") or 10000.0)
    scaling = source.of_model("rope.scaling.type")
    match scaling:
        case None | "none":
            return {"rope_type": "default", "rope_theta": theta}
        case "linear":
            return {"rope_type": "linear", "rope_theta": theta, "factor": float(source.of_model("rope.scaling.factor"))}
    raise DistillError(f"{source.path} stretches its context by {scaling!r}, which lessons do not know; choose another")


def loaded(source: GgufModel, name: str, config: PreTrainedConfig, dtype: torch.dtype) -> torch.Tensor:
    """A tensor in transformers' order of rows: ``llama`` files alternate what transformers keeps in halves."""
    heads = rotated_heads(source.architecture, name, config.num_attention_heads, config.num_key_value_heads)
    if heads is not None:
        rows = source.load(name)
        split = rows.reshape(heads, rows.shape[0] // heads // 2, 2, *rows.shape[1:])
        return torch.from_numpy(np.ascontiguousarray(split.swapaxes(1, 2).reshape(rows.shape))).to(dtype)
    shape = source.tensors[name].shape
    values = torch.empty(shape, dtype=dtype)
    by_row = values.view(-1, shape[-1])
    for first in range(0, len(by_row), ROWS):
        by_row[first : first + ROWS] = torch.from_numpy(source.rows(name, slice(first, first + ROWS)))
    return values
