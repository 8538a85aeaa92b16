"""A base model straight from the GGUF that is served: no second download, and just those rounded weights.

Dense: the whole model in the chosen precision, one tensor after the other, a few rows at a time. Packed: matrices stay
in the file, which is mapped, and are unpacked for each matmul; memory is then about the file's size, and can be less.
"""

from math import prod

import gguf
import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from supervisor.distill.dequantize import is_known
from supervisor.distill.gguf_config import KINDS, config_of
from supervisor.distill.gguf_model import ARCHITECTURES, rotated_heads
from supervisor.distill.gguf_read import GgufModel
from supervisor.distill.packed import PackedEmbedding, PackedLinear, packed_from, unturned
from supervisor.errors import DistillError

ROWS = 4096  # at a time
ROPE_FACTORS = "rope_freqs.weight"  # what Llama 3.1 divides its rotation frequencies by


def model_from(
    source: GgufModel, dtype: torch.dtype, *, packed: bool = False, context: int | None = None
) -> PreTrainedModel:
    """Raises DistillError naming what this loader does not know: nothing is left out silently."""
    config = config_of(source, context=context)
    with torch.device("meta"):
        model = KINDS[source.architecture].model(config)
    rebuild_buffers(model)
    places = tensors_of(source, model)
    left = set(source.tensors) - KINDS[source.architecture].unread - set(places.values())
    if ROPE_FACTORS in left:
        stretch_rotation(model, torch.from_numpy(source.load(ROPE_FACTORS)))
        left.discard(ROPE_FACTORS)
    if left:
        raise DistillError(
            f"{source.path} holds {len(left)} tensors that lessons do not know, {min(left)} for one; "
            f"it is not a plain {source.architecture} model, choose another"
        )
    fill(model, source, places, dtype, packed=packed)
    return model


def rebuild_buffers(model: PreTrainedModel) -> None:
    """What transformers computes instead of loading."""
    decoder = model.model
    decoder.rotary_emb = type(decoder.rotary_emb)(model.config)
    if hasattr(decoder.embed_tokens, "embed_scale"):  # Gemma's
        decoder.embed_tokens.embed_scale = torch.tensor(decoder.embed_tokens.scalar_embed_scale)


def tensors_of(source: GgufModel, model: PreTrainedModel) -> dict[str, str]:
    """The file's name for each parameter; a tied one once."""
    names = gguf.get_tensor_name_map(ARCHITECTURES[source.architecture], model.config.num_hidden_layers)
    found: dict[str, str] = {}
    for ours, parameter in model.named_parameters():
        name = names.get_name(ours, try_suffixes=(".weight", ".bias"))
        if name not in source.tensors:
            raise DistillError(f"{source.path} has no {name or ours}; it is not a whole {source.architecture} model")
        if source.tensors[name].shape != tuple(parameter.shape):
            raise DistillError(
                f"{source.path}: {name} is {source.tensors[name].shape}, which its own description denies"
            )
        found[ours] = name
    return found


def stretch_rotation(model: PreTrainedModel, factors: Tensor) -> None:
    rotation = model.model.rotary_emb
    rotation.inv_freq /= factors
    rotation.original_inv_freq = rotation.inv_freq.clone()


def fill(
    model: PreTrainedModel, source: GgufModel, places: dict[str, str], dtype: torch.dtype, *, packed: bool
) -> None:
    for ours, name in places.items():
        path, _, parameter = ours.rpartition(".")
        module = model.get_submodule(path)
        if packed and isinstance(module, nn.Linear | nn.Embedding) and stays_packed(source, name):
            replace(model, path, module, source, name, dtype)
        else:
            values = loaded(source, name, model.config, dtype)
            setattr(module, parameter, nn.Parameter(values, requires_grad=False))
    embedding = model.model.embed_tokens
    if not model.config.tie_word_embeddings:
        return
    if isinstance(embedding, PackedEmbedding):
        model.lm_head = PackedLinear(embedding.packed, dtype)
    else:
        model.tie_weights()


def stays_packed(source: GgufModel, name: str) -> bool:
    tensor = source.tensors[name]
    return len(tensor.shape) == 2 and is_known(tensor.kind)


def replace(
    model: PreTrainedModel, path: str, module: nn.Module, source: GgufModel, name: str, dtype: torch.dtype
) -> None:
    """The module by its packed twin; a bias that is loaded already, or later, goes with it."""
    packed = packed_from(source, name, turned(source, name, model.config))
    if isinstance(module, nn.Embedding):
        twin: nn.Module = PackedEmbedding(packed, dtype, getattr(module, "scalar_embed_scale", None))
    else:
        assert isinstance(module, nn.Linear)
        twin = PackedLinear(packed, dtype, module.bias)
    above, _, leaf = path.rpartition(".")
    setattr(model.get_submodule(above), leaf, twin)


def turned(source: GgufModel, name: str, config: PreTrainedConfig) -> int | None:
    """``llama`` files alternate what transformers keeps in halves: the heads of which this is so."""
    return rotated_heads(source.architecture, name, config.num_attention_heads, config.num_key_value_heads)


def loaded(source: GgufModel, name: str, config: PreTrainedConfig, dtype: torch.dtype) -> Tensor:
    """A tensor's values as transformers has them."""
    heads = turned(source, name, config)
    if stays_packed(source, name):
        return packed_from(source, name, heads).values(dtype)
    shape = source.tensors[name].shape
    values = torch.empty(prod(shape[:-1]), shape[-1], dtype=dtype)
    order = np.arange(len(values)) if heads is None else unturned(len(values), heads).numpy()
    shift = KINDS[source.architecture].shift if name.endswith("norm.weight") else 0.0
    for first in range(0, len(values), ROWS):
        values[first : first + ROWS] = torch.from_numpy(source.rows(name, order[first : first + ROWS]) - shift)
    return values.view(shape)
