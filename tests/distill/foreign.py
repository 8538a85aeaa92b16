"""Models of kinds that lessons do not read from a GGUF: a folder as transformers saves it, and the file beside it.

The file is what llama.cpp's own conversion makes of such a model, whose names and numbers its sources tell.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GemmaConfig,
    GemmaForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    Olmo2Config,
    Olmo2ForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    SmolLM3Config,
    SmolLM3ForCausalLM,
)

from supervisor.distill.gguf_tokenizer import describe_tokenizer
from tests.distill import gguf_files, random_models
from tests.distill.random_models import SHAPE

UNMARKED = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}


@dataclass(frozen=True)
class Kind:
    """``numbers``: what its file says beyond the usual; ``turned``: rows of queries and keys alternate in the file."""

    make: Callable[[], PreTrainedModel]
    architecture: gguf.MODEL_ARCH
    numbers: Callable[[PreTrainedConfig], Mapping[str, float]]
    turned: bool
    shift: float = 0.0  # of norms


def gemma() -> PreTrainedModel:
    return normed(GemmaForCausalLM(GemmaConfig(**SHAPE | UNMARKED | {"head_dim": 32})))


def gemma2() -> PreTrainedModel:
    own = {"head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 512}
    return normed(Gemma2ForCausalLM(Gemma2Config(**SHAPE | UNMARKED | own)))


def normed(model: PreTrainedModel) -> PreTrainedModel:
    """With norms that somebody would miss."""
    for name, weight in model.named_parameters():
        if "norm" in name:
            torch.nn.init.normal_(weight, weight.mean().item(), std=0.2)
    return model


def granite() -> PreTrainedModel:
    own = {"embedding_multiplier": 3.0, "residual_multiplier": 0.5, "attention_multiplier": 0.2, "logits_scaling": 2.0}
    return GraniteForCausalLM(GraniteConfig(**SHAPE | UNMARKED | own))


def olmo2() -> PreTrainedModel:
    return normed(Olmo2ForCausalLM(Olmo2Config(**SHAPE | UNMARKED)))


def smollm3() -> PreTrainedModel:
    """Every fourth layer does not rotate."""
    return SmolLM3ForCausalLM(SmolLM3Config(**SHAPE | UNMARKED | {"num_hidden_layers": 4}))


KINDS = {
    "gemma": Kind(gemma, gguf.MODEL_ARCH.GEMMA, lambda _config: {}, turned=False, shift=1.0),
    "gemma2": Kind(
        gemma2,
        gguf.MODEL_ARCH.GEMMA2,
        lambda config: {
            "attn_logit_softcapping": config.attn_logit_softcapping,
            "final_logit_softcapping": config.final_logit_softcapping,
        },
        turned=False,
        shift=1.0,
    ),
    "granite": Kind(
        granite,
        gguf.MODEL_ARCH.GRANITE,
        lambda config: {
            "embedding_scale": config.embedding_multiplier,
            "residual_scale": config.residual_multiplier,
            "attention.scale": config.attention_multiplier,
            "logit_scale": config.logits_scaling,
        },
        turned=True,
    ),
    "olmo2": Kind(olmo2, gguf.MODEL_ARCH.OLMO2, lambda _config: {}, turned=False),
    "smollm3": Kind(smollm3, gguf.MODEL_ARCH.SMOLLM3, lambda _config: {}, turned=True),
}


def made(name: str, folder: Path, template: str) -> PreTrainedModel:
    """The folder, with ``model.gguf`` in float32."""
    torch.manual_seed(3)
    kind = KINDS[name]
    model = kind.make().eval()
    model.save_pretrained(folder)
    random_models.with_template(folder, template)
    writer = gguf.GGUFWriter(folder / "model.gguf", gguf.MODEL_ARCH_NAMES[kind.architecture])
    describe(writer, kind, model.config)
    describe_tokenizer(writer, folder, model.config.vocab_size)
    names = gguf.get_tensor_name_map(kind.architecture, model.config.num_hidden_layers)
    for ours, weight in model.named_parameters():
        theirs = names.get_name(ours, try_suffixes=(".weight",))
        assert theirs is not None
        writer.add_tensor(theirs, stored(kind, theirs, weight.detach().numpy(), model.config))
    gguf_files.finished(writer)
    return model


def describe(writer: gguf.GGUFWriter, kind: Kind, config: PreTrainedConfig) -> None:
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_rope_dimension_count(width)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    for key, value in kind.numbers(config).items():
        writer.add_float32(f"{gguf.MODEL_ARCH_NAMES[kind.architecture]}.{key}", value)


def stored(kind: Kind, name: str, values: NDArray[np.float32], config: PreTrainedConfig) -> NDArray[np.float32]:
    if name.endswith("norm.weight"):
        return values + np.float32(kind.shift)
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(name.split(".")[-2])
    if heads is None or not kind.turned:
        return values
    halves = values.reshape(heads, 2, len(values) // heads // 2, -1)
    return np.ascontiguousarray(halves.transpose(0, 2, 1, 3).reshape(values.shape))
