"""A Hugging Face model folder as GGUF: decoders of the Llama, Mistral, Qwen, Gemma 3 and Phi-3 kind."""

import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import gguf
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError, model_validator

from supervisor.distill.gguf_file import Planned, write_gguf
from supervisor.distill.gguf_tokenizer import describe_tokenizer
from supervisor.distill.safetensors_file import StoredTensor, stored_tensors
from supervisor.errors import GgufError

ARCHITECTURES = {
    "llama": gguf.MODEL_ARCH.LLAMA,
    "qwen2": gguf.MODEL_ARCH.QWEN2,
    "qwen3": gguf.MODEL_ARCH.QWEN3,
    "gemma3": gguf.MODEL_ARCH.GEMMA3,
    "phi3": gguf.MODEL_ARCH.PHI3,
}
INTERLEAVED = frozenset({"llama", "granite", "smollm3"})  # in these a rotation turns neighbours
EXPORTED = {  # by transformers' name for it
    "llama": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "mistral": "llama",
    "gemma3_text": "gemma3",
    "phi3": "phi3",
}
ROPES = ("default", "linear", "llama3", "yarn", "longrope")
GEMMA3_27B_LAYERS = 62  # llama.cpp scales the attention of that model otherwise, and knows it by this


class RopeScaling(BaseModel, frozen=True, extra="ignore"):
    rope_type: str = "default"
    rope_theta: float | None = None
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position_embeddings: int = 8192
    attention_factor: float | None = None
    beta_fast: float | None = None
    beta_slow: float | None = None
    partial_rotary_factor: float = 1.0
    long_factor: list[float] | None = None
    short_factor: list[float] | None = None


class ModelConfig(BaseModel, frozen=True, extra="ignore"):
    """The part of ``config.json`` that a GGUF repeats."""

    model_type: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    max_position_embeddings: int
    rms_norm_eps: float
    head_dim: int | None = None
    tie_word_embeddings: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    rope_theta: float | None = None
    rope_parameters: RopeScaling | None = None
    rope_scaling: RopeScaling | None = None
    rope_local_base_freq: float = 10000.0
    partial_rotary_factor: float | None = None
    original_max_position_embeddings: int | None = None
    sliding_window: int | None = None
    layer_types: list[str] | None = None
    query_pre_attn_scalar: float | None = None
    final_logit_softcapping: float | None = None

    @model_validator(mode="before")
    @classmethod
    def one_rotation(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Gemma's layers rotate in two ways; the one of those that see everything is the model's, as in a GGUF."""
        both = values.get("rope_parameters") or {}
        if "full_attention" not in both:
            return values
        local = both["sliding_attention"].get("rope_theta", 10000.0)
        return values | {"rope_parameters": both["full_attention"], "rope_local_base_freq": local}

    @property
    def architecture(self) -> str:
        return EXPORTED[self.model_type]

    @property
    def head_width(self) -> int:
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @property
    def rope(self) -> RopeScaling:
        return self.rope_parameters or self.rope_scaling or RopeScaling()

    @property
    def theta(self) -> float:
        return self.rope.rope_theta or self.rope_theta or 10000.0

    @property
    def rotated(self) -> int:
        """Values of each head that take part in the rotation."""
        return int(self.head_width * (self.partial_rotary_factor or self.rope.partial_rotary_factor))

    @property
    def trained_context(self) -> int:
        return self.original_max_position_embeddings or self.rope.original_max_position_embeddings


def export_model(folder: Path, out: Path, *, dtype: Literal["f32", "f16"] = "f16") -> None:
    """Write the model of ``folder`` to ``out``; matrices in ``dtype``, vectors in f32. Raises GgufError."""
    config = read_config(folder)
    names = gguf.get_tensor_name_map(ARCHITECTURES[config.architecture], config.num_hidden_layers)
    tensors = [
        _planned(config, names, stored, dtype)
        for stored in stored_tensors(folder, "model.safetensors").values()
        if not (stored.name == "lm_head.weight" and config.tie_word_embeddings)
    ]
    tensors += [Planned(name, values.shape, "f32", partial(np.copy, values)) for name, values in factors_of(config)]
    _check_complete(folder, config, {tensor.name for tensor in tensors})

    def describe(writer: gguf.GGUFWriter) -> None:
        _describe(writer, config, folder.name, dtype)
        describe_tokenizer(writer, folder, config.vocab_size)

    write_gguf(out, config.architecture, describe, tensors)


def read_config(folder: Path) -> ModelConfig:
    """Raises GgufError for a missing file, an unknown architecture or a rope we cannot express."""
    path = folder / "config.json"
    if not path.is_file():
        raise GgufError(f"{path} is missing; {folder} is not a Hugging Face model folder")
    raw = json.loads(path.read_text(encoding="utf-8"))
    if raw.get("model_type") not in EXPORTED:
        raise GgufError(f"{path}: cannot export architecture {raw.get('model_type')!r}; known: {', '.join(EXPORTED)}")
    try:
        config = ModelConfig.model_validate(raw)
    except ValidationError as exc:
        raise GgufError(f"{path} is incomplete: {exc}") from exc
    if config.rope.rope_type not in ROPES:
        raise GgufError(f"{path}: rope type {config.rope.rope_type!r} cannot be exported; known: {', '.join(ROPES)}")
    if config.query_pre_attn_scalar not in (None, served_scalar(config)):
        raise GgufError(f"{path}: attention scaled by {config.query_pre_attn_scalar} is not what llama.cpp computes")
    if config.attention_bias or config.mlp_bias:
        raise GgufError(f"{path}: biases in attention or MLP cannot be exported")
    return config


def served_scalar(config: ModelConfig) -> int:
    """Of Gemma 3: llama.cpp multiplies attention scores by this to the power of -1/2."""
    per_head = config.hidden_size // config.num_attention_heads
    return per_head if config.num_hidden_layers == GEMMA3_27B_LAYERS else config.head_width


def _planned(
    config: ModelConfig, names: gguf.TensorNameMap, stored: StoredTensor, dtype: Literal["f32", "f16"]
) -> Planned:
    name = names.get_name(stored.name, try_suffixes=(".weight", ".bias"))
    if name is None:
        raise GgufError(f"{stored.file}: {stored.name} has no place in a {config.architecture} GGUF")
    load: Callable[[], NDArray[np.float32]] = stored.load
    if config.architecture == "gemma3" and name.endswith("norm.weight"):
        load = partial(_load_norm, stored)
    heads = rotated_heads(config.architecture, name, config.num_attention_heads, config.num_key_value_heads)
    if heads is not None:
        load = partial(_load_interleaved, stored, heads)
    return Planned(name, stored.shape, dtype if len(stored.shape) > 1 else "f32", load)


def _load_interleaved(stored: StoredTensor, heads: int) -> NDArray[np.float32]:
    return interleave(stored.load(), heads)


def _load_norm(stored: StoredTensor) -> NDArray[np.float32]:
    """transformers adds the 1 as it computes, llama.cpp finds it in the file."""
    return stored.load() + np.float32(1)


def rotated_heads(architecture: str, name: str, heads: int, kv_heads: int) -> int | None:
    """Number of heads whose rows llama.cpp wants interleaved; None for tensors that stay as they are."""
    if architecture not in INTERLEAVED:
        return None
    if name.endswith(("attn_q.weight", "attn_q")):
        return heads
    if name.endswith(("attn_k.weight", "attn_k")):
        return kv_heads
    return None


def interleave(rows: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Rows of each head from (first half, second half) to alternating pairs, the rotation order of ``llama``."""
    split = rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
    return np.ascontiguousarray(split.swapaxes(1, 2).reshape(rows.shape))


def factors_of(config: ModelConfig) -> list[tuple[str, NDArray[np.float32]]]:
    """What llama.cpp divides rotation frequencies by, as the tensors that it finds them in."""
    if config.rope.rope_type == "llama3":
        return [("rope_freqs.weight", llama3_factors(config))]
    if config.rope.rope_type == "longrope":
        both = {"long": config.rope.long_factor, "short": config.rope.short_factor}
        return [(f"rope_factors_{name}.weight", np.array(values, np.float32)) for name, values in both.items()]
    return []


def llama3_factors(config: ModelConfig) -> NDArray[np.float32]:
    """What Llama 3.1 divides each rotation frequency by: 1 for fast ones, ``factor`` for slow ones."""
    rope, width = config.rope, config.head_width
    wavelength = 2 * math.pi * config.theta ** (np.arange(0, width, 2, dtype=np.float64) / width)
    turns = rope.original_max_position_embeddings / wavelength
    smooth = (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor)
    smooth = smooth.clip(0.0, 1.0)
    factors: NDArray[np.float32] = (1.0 / ((1.0 - smooth) / rope.factor + smooth)).astype(np.float32)
    return factors


def _check_complete(folder: Path, config: ModelConfig, found: set[str]) -> None:
    kinds = ["attn_q", "attn_k", "attn_v", "ffn_gate"] if config.architecture != "phi3" else ["attn_qkv"]
    kinds += ["attn_output", "ffn_up", "ffn_down", "attn_norm", "ffn_norm"]
    wanted = {f"blk.{block}.{kind}.weight" for block in range(config.num_hidden_layers) for kind in kinds}
    wanted |= {"token_embd.weight", "output_norm.weight"}
    if not config.tie_word_embeddings:
        wanted.add("output.weight")
    if missing := sorted(wanted - found):
        raise GgufError(f"{folder}: {len(missing)} tensors are missing, the first is {missing[0]}")


def _describe(writer: gguf.GGUFWriter, config: ModelConfig, name: str, dtype: Literal["f32", "f16"]) -> None:
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(name)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16 if dtype == "f16" else gguf.LlamaFileType.ALL_F32)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_width)
    writer.add_value_length(config.head_width)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.rotated)
    writer.add_rope_freq_base(config.theta)
    _describe_stretch(writer, config)
    if config.architecture == "gemma3":
        _describe_gemma3(writer, config)


def _describe_stretch(writer: gguf.GGUFWriter, config: ModelConfig) -> None:
    rope = config.rope
    if rope.rope_type in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(rope.rope_type))
        writer.add_rope_scaling_factor(rope.factor)
    if rope.rope_type in ("yarn", "longrope"):
        writer.add_rope_scaling_orig_ctx_len(config.trained_context)
    if rope.rope_type == "longrope":
        stretch = config.max_position_embeddings / config.trained_context
        usual = math.sqrt(1 + math.log(stretch) / math.log(config.trained_context)) if stretch > 1 else 1.0
        writer.add_rope_scaling_attn_factors(rope.attention_factor or usual)


def _describe_gemma3(writer: gguf.GGUFWriter, config: ModelConfig) -> None:
    types = config.layer_types or []
    period = types.index("full_attention") + 1 if "full_attention" in types else len(types) + 1
    if types != [("full" if layer % period == 0 else "sliding") + "_attention" for layer in range(1, len(types) + 1)]:
        raise GgufError(f"layers that see everything come irregularly ({types}), which cannot be exported")
    writer.add_sliding_window(config.sliding_window or 0)
    writer.add_sliding_window_pattern(period)
    writer.add_rope_freq_base_swa(config.rope_local_base_freq)
    if config.final_logit_softcapping is not None:
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
