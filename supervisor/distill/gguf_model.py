"""A Hugging Face model folder as GGUF: Qwen3 and Llama."""

import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import gguf
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from supervisor.distill.gguf_file import Planned, write_gguf
from supervisor.distill.gguf_tokenizer import describe_tokenizer
from supervisor.distill.safetensors_file import StoredTensor, stored_tensors
from supervisor.errors import GgufError

ARCHITECTURES = {
    "llama": gguf.MODEL_ARCH.LLAMA,
    "qwen2": gguf.MODEL_ARCH.QWEN2,
    "qwen3": gguf.MODEL_ARCH.QWEN3,
}


class RopeScaling(BaseModel, frozen=True, extra="ignore"):
    rope_type: str = "default"
    rope_theta: float | None = None
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position_embeddings: int = 8192


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

    @property
    def head_width(self) -> int:
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @property
    def rope(self) -> RopeScaling:
        return self.rope_parameters or self.rope_scaling or RopeScaling()

    @property
    def theta(self) -> float:
        return self.rope.rope_theta or self.rope_theta or 10000.0


def export_model(folder: Path, out: Path, *, dtype: Literal["f32", "f16"] = "f16") -> None:
    """Write the model of ``folder`` to ``out``; matrices in ``dtype``, vectors in f32. Raises GgufError."""
    config = read_config(folder)
    names = gguf.get_tensor_name_map(ARCHITECTURES[config.model_type], config.num_hidden_layers)
    tensors = [
        _planned(config, names, stored, dtype)
        for stored in stored_tensors(folder, "model.safetensors").values()
        if not (stored.name == "lm_head.weight" and config.tie_word_embeddings)
    ]
    if config.rope.rope_type == "llama3":
        factors = llama3_factors(config)
        tensors.append(Planned("rope_freqs.weight", factors.shape, "f32", lambda: factors))
    _check_complete(folder, config, {tensor.name for tensor in tensors})

    def describe(writer: gguf.GGUFWriter) -> None:
        _describe(writer, config, folder.name, dtype)
        describe_tokenizer(writer, folder, config.vocab_size)

    write_gguf(out, config.model_type, describe, tensors)


def read_config(folder: Path) -> ModelConfig:
    """Raises GgufError for a missing file, an unknown architecture or a rope we cannot express."""
    path = folder / "config.json"
    if not path.is_file():
        raise GgufError(f"{path} is missing; {folder} is not a Hugging Face model folder")
    raw = json.loads(path.read_text(encoding="utf-8"))
    if raw.get("model_type") not in ARCHITECTURES:
        raise GgufError(
            f"{path}: cannot export architecture {raw.get('model_type')!r}; known: {', '.join(ARCHITECTURES)}"
        )
    try:
        config = ModelConfig.model_validate(raw)
    except ValidationError as exc:
        raise GgufError(f"{path} is incomplete: {exc}") from exc
    if config.rope.rope_type not in ("default", "linear", "llama3"):
        raise GgufError(
            f"{path}: rope type {config.rope.rope_type!r} cannot be exported; known: default, linear, llama3"
        )
    if config.attention_bias or config.mlp_bias:
        raise GgufError(f"{path}: biases in attention or MLP cannot be exported")
    return config


def _planned(
    config: ModelConfig, names: gguf.TensorNameMap, stored: StoredTensor, dtype: Literal["f32", "f16"]
) -> Planned:
    name = names.get_name(stored.name, try_suffixes=(".weight", ".bias"))
    if name is None:
        raise GgufError(f"{stored.file}: {stored.name} has no place in a {config.model_type} GGUF")
    load: Callable[[], NDArray[np.float32]] = stored.load
    heads = rotated_heads(config.model_type, name, config.num_attention_heads, config.num_key_value_heads)
    if heads is not None:
        load = partial(_load_interleaved, stored, heads)
    return Planned(name, stored.shape, dtype if len(stored.shape) > 1 else "f32", load)


def _load_interleaved(stored: StoredTensor, heads: int) -> NDArray[np.float32]:
    return interleave(stored.load(), heads)


def rotated_heads(architecture: str, name: str, heads: int, kv_heads: int) -> int | None:
    """Number of heads whose rows llama.cpp wants interleaved; None for tensors that stay as they are."""
    if architecture != "llama":
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
    kinds = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down", "attn_norm", "ffn_norm"]
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
    writer.add_rope_dimension_count(config.head_width)
    writer.add_rope_freq_base(config.theta)
    if config.rope.rope_type == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(config.rope.factor)
