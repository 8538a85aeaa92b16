"""What a GGUF says about its model, as a transformers configuration.

Where the file and transformers' defaults leave room, llama.cpp decides: what is taught is what it serves.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from supervisor.distill.gguf_read import GgufModel
from supervisor.errors import DistillError

LONG, SHORT = "rope_factors_long.weight", "rope_factors_short.weight"
GEMMA3_27B_LAYERS = 62  # its attention is scaled otherwise, and llama.cpp knows it by this
OTHER_WAY = (
    "It serves, but to teach it choose another model, or give its Hugging Face files: "
    "hf download OWNER/NAME --local-dir FOLDER fetches them, and CLAWLAMA_MODEL may be that folder, the GGUF in it"
)


def config_of(source: GgufModel, *, context: int | None = None) -> PreTrainedConfig:
    """``context``: tokens that the engine keeps; None: as many as the model can. DistillError for what is not known."""
    if source.architecture not in KINDS:
        known = ", ".join(sorted(KINDS))
        raise DistillError(
            f"{source.path} has architecture {source.architecture!r}; lessons from a GGUF are known for {known}. "
            f"{OTHER_WAY}"
        )
    if source.of_model("expert_count"):
        raise DistillError(
            f"{source.path} is a mixture of experts, which lessons do not know yet; choose another model"
        )
    if "token_embd.weight" not in source.tensors:
        raise DistillError(f"{source.path} has no token_embd.weight; it is not a whole model")
    kind = KINDS[source.architecture]
    return kind.config(**shared(source), **kind.own(source, context))


def shared(source: GgufModel) -> dict[str, Any]:
    heads = source.number("attention.head_count")
    return {
        "vocab_size": source.tensors["token_embd.weight"].shape[0],
        "hidden_size": source.number("embedding_length"),
        "intermediate_size": source.number("feed_forward_length"),
        "num_hidden_layers": source.number("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": source.number("attention.head_count_kv")
        if source.of_model("attention.head_count_kv")
        else heads,
        "max_position_embeddings": source.number("context_length"),
        "rms_norm_eps": float(source.of_model("attention.layer_norm_rms_epsilon")),
        "tie_word_embeddings": "output.weight" not in source.tensors,
        "pad_token_id": None,
    }


def head_width(source: GgufModel) -> int:
    width = source.of_model("attention.key_length")
    return int(width or source.number("embedding_length") // source.number("attention.head_count"))


def llama_like(source: GgufModel, context: int | None) -> dict[str, Any]:
    whole_rotation(source)
    return {"head_dim": head_width(source), "rope_parameters": rope(source)}


def whole_rotation(source: GgufModel) -> None:
    width = head_width(source)
    turned = source.of_model("rope.dimension_count") or width
    if int(turned) != width:
        raise DistillError(f"{source.path} rotates {turned} of {width} values of a head, which lessons do not know")


def rope(source: GgufModel) -> dict[str, Any]:
    found: dict[str, Any] = {"rope_type": "default", "rope_theta": float(source.of_model("rope.freq_base") or 10000.0)}
    scaling = source.of_model("rope.scaling.type")
    if scaling in (None, "none"):
        return found
    factor = float(source.of_model("rope.scaling.factor") or 1.0)
    match scaling:
        case "linear":
            return found | {"rope_type": "linear", "factor": factor}
        case "yarn" if source.of_model("rope.scaling.yarn_ext_factor") in (None, 1.0):
            return found | {
                "rope_type": "yarn",
                "factor": factor,
                "original_max_position_embeddings": source.number("rope.scaling.original_context_length"),
                "attention_factor": (0.1 * math.log(factor) + 1.0) * attention_factor(source),
                "beta_fast": float(source.of_model("rope.scaling.yarn_beta_fast") or 32.0),
                "beta_slow": float(source.of_model("rope.scaling.yarn_beta_slow") or 1.0),
            }
    raise DistillError(f"{source.path} stretches its context by {scaling!r}, which lessons do not know. {OTHER_WAY}")


def attention_factor(source: GgufModel) -> float:
    return float(source.of_model("rope.scaling.attn_factor") or source.of_model("rope.scaling.yarn_attn_factor") or 1.0)


def gemma3(source: GgufModel, context: int | None) -> dict[str, Any]:
    whole_rotation(source)
    if source.of_model("rope.freq_base") is None:
        raise DistillError(
            f"{source.path} does not say in llama.cpp's way how it rotates: it was made for Ollama's own engine; "
            "pull a build from hf.co instead"
        )
    layers, width = source.number("block_count"), head_width(source)
    window = source.of_model("attention.sliding_window")
    scalar = source.number("embedding_length") // source.number("attention.head_count")
    local = {"rope_type": "default", "rope_theta": float(source.of_model("rope.freq_base_swa") or 10000.0)}
    return {
        "head_dim": width,
        "query_pre_attn_scalar": scalar if layers == GEMMA3_27B_LAYERS else width,
        "sliding_window": int(window) if window else None,
        "layer_types": layer_types(source, layers) if window else ["full_attention"] * layers,
        "final_logit_softcapping": source.of_model("final_logit_softcapping"),
        "rope_parameters": {"full_attention": rope(source), "sliding_attention": local},
    }


def layer_types(source: GgufModel, layers: int) -> list[str]:
    """Every sixth layer sees everything, unless the file says otherwise: a number, or one truth per layer."""
    pattern = source.of_model("attention.sliding_window_pattern") or 6
    slides = pattern if isinstance(pattern, list) else [(layer + 1) % int(pattern) != 0 for layer in range(layers)]
    return ["sliding_attention" if one else "full_attention" for one in slides]


def phi3(source: GgufModel, context: int | None) -> dict[str, Any]:
    """Its sliding window is left out, as llama.cpp does; and the way to rotate depends on the served context alone."""
    width = head_width(source)
    parameters = rope(source)
    turned = int(source.of_model("rope.dimension_count") or width)
    original = int(source.of_model("rope.scaling.original_context_length") or source.number("context_length"))
    if LONG in source.tensors:
        stretched = (context or source.number("context_length")) > original
        factors = source.load(LONG if stretched else SHORT).tolist()
        parameters |= {
            "rope_type": "longrope",
            "long_factor": factors,
            "short_factor": factors,
            "original_max_position_embeddings": original,
            "attention_factor": attention_factor(source),
        }
    parameters["partial_rotary_factor"] = turned / width
    return {"rope_parameters": parameters, "original_max_position_embeddings": original, "sliding_window": None}


@dataclass(frozen=True)
class ModelKind:
    config: type[PreTrainedConfig]
    model: type[PreTrainedModel]
    own: Callable[[GgufModel, int | None], dict[str, Any]]
    shift: float = 0.0  # what llama.cpp adds to a norm's weight
    unread: frozenset[str] = frozenset()  # tensors that the configuration holds already


KINDS = {
    "llama": ModelKind(LlamaConfig, LlamaForCausalLM, llama_like),
    "qwen2": ModelKind(Qwen2Config, Qwen2ForCausalLM, llama_like),
    "qwen3": ModelKind(Qwen3Config, Qwen3ForCausalLM, llama_like),
    "gemma3": ModelKind(Gemma3TextConfig, Gemma3ForCausalLM, gemma3, shift=1.0),
    "phi3": ModelKind(Phi3Config, Phi3ForCausalLM, phi3, unread=frozenset({LONG, SHORT})),
}
