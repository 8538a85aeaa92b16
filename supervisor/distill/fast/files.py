"""A model's files as the fast engine reads them: one tensor at a time, by the names that transformers gives them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from gguf import GGMLQuantizationType as Kind
from safetensors import safe_open
from torch import Tensor

from supervisor.distill.dequantize import PLAIN, UNPACKED
from supervisor.distill.fast.decoder import Shape
from supervisor.distill.gguf_model import ARCHITECTURES, llama3_factors, read_config, rotated_heads
from supervisor.distill.gguf_read import GgufModel
from supervisor.distill.packed import Packed, as_tensor, packed_from
from supervisor.distill.safetensors_file import StoredTensor, stored_tensors

KINDS = frozenset({"llama", "mistral", "qwen2", "qwen3"})  # what transformers calls them
ROPE_FACTORS = "rope_freqs.weight"
PACKABLE = frozenset({"F32", "F16", "BF16"})  # of what safetensors knows; a GGUF calls them the same


@dataclass(frozen=True)
class GgufFiles:
    """The served file itself; it stays mapped."""

    model: GgufModel
    shape: Shape
    frequencies: Tensor
    sizes: Mapping[str, tuple[int, ...]]
    names: Mapping[str, str]  # in the file

    @classmethod
    def of(cls, path: Path) -> Self | None:
        model = GgufModel(path)
        scaling = model.of_model("rope.scaling.type") or "none"
        known = model.architecture in KINDS & set(ARCHITECTURES) and scaling in {"none", "linear"}
        if not known or model.of_model("expert_count") or "token_embd.weight" not in model.tensors:
            return None
        shape = gguf_shape(model)
        if int(model.of_model("rope.dimension_count") or shape.width) != shape.width:
            return None
        names = {ours: theirs for theirs in model.tensors if (ours := our_name(theirs)) is not None}
        if len(names) + (ROPE_FACTORS in model.tensors) != len(model.tensors):
            return None
        sizes = {ours: model.tensors[theirs].shape for ours, theirs in names.items()}
        return cls(model, shape, gguf_frequencies(model, shape.width), sizes, names)

    def read(self, name: str, out: Tensor) -> None:
        matrix = self.packed(name) if len(out.shape) == 2 else None
        if matrix is not None and out.device.type == "cpu":
            matrix.values(out.dtype, out)
        elif matrix is not None:
            out.copy_(matrix.values(out.dtype))  # unpacked where the file is mapped
        else:
            out.copy_(torch.from_numpy(self.model.load(self.names[name])))

    def packed(self, name: str) -> Packed | None:
        tensor = self.model.tensors[self.names[name]]
        heads = rotated_heads(self.model.architecture, tensor.name, self.shape.heads, self.shape.key_heads)
        return packed_from(self.model, tensor.name, heads) if tensor.kind in (*PLAIN, *UNPACKED) else None


GGUF_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def our_name(name: str) -> str | None:
    """``blk.3.attn_q.weight`` as ``model.layers.3.self_attn.q_proj.weight``; None for a tensor that is not known."""
    match name.split("."):
        case ["blk", index, part, kind] if part in GGUF_NAMES:
            return f"model.layers.{index}.{GGUF_NAMES[part]}.{kind}"
        case [part, kind] if part in GGUF_NAMES:
            return f"{GGUF_NAMES[part]}.{kind}"
    return None


def gguf_shape(model: GgufModel) -> Shape:
    heads = model.number("attention.head_count")
    return Shape(
        layers=model.number("block_count"),
        hidden=model.number("embedding_length"),
        heads=heads,
        key_heads=model.number("attention.head_count_kv") if model.of_model("attention.head_count_kv") else heads,
        width=int(model.of_model("attention.key_length") or model.number("embedding_length") // heads),
        inner=model.number("feed_forward_length"),
        vocabulary=model.tensors["token_embd.weight"].shape[0],
        eps=float(model.of_model("attention.layer_norm_rms_epsilon")),
    )


def gguf_frequencies(model: GgufModel, width: int) -> Tensor:
    frequencies = plain_frequencies(float(model.of_model("rope.freq_base") or 10000.0), width)
    if model.of_model("rope.scaling.type") == "linear":
        frequencies /= float(model.of_model("rope.scaling.factor"))
    if ROPE_FACTORS in model.tensors:
        frequencies /= torch.from_numpy(model.load(ROPE_FACTORS))
    return frequencies


def plain_frequencies(theta: float, width: int) -> Tensor:
    """Angle per position of each pair of a head's values: (width/2,)."""
    return 1.0 / theta ** (torch.arange(0, width, 2).float() / width)


@dataclass(frozen=True)
class FolderFiles:
    """``config.json`` and safetensors, as transformers saves them."""

    shape: Shape
    frequencies: Tensor
    sizes: Mapping[str, tuple[int, ...]]
    stored: Mapping[str, StoredTensor]

    @classmethod
    def of(cls, folder: Path) -> Self | None:
        if not covered(folder):
            return None
        config = read_config(folder)
        stored = stored_tensors(folder, "model.safetensors")
        if config.tie_word_embeddings:
            stored.pop("lm_head.weight", None)
        shape = Shape(
            layers=config.num_hidden_layers,
            hidden=config.hidden_size,
            heads=config.num_attention_heads,
            key_heads=config.num_key_value_heads,
            width=config.head_width,
            inner=config.intermediate_size,
            vocabulary=stored["model.embed_tokens.weight"].shape[0],
            eps=config.rms_norm_eps,
        )
        frequencies = plain_frequencies(config.theta, config.head_width)
        match config.rope.rope_type:
            case "linear":
                frequencies /= config.rope.factor
            case "llama3":
                frequencies /= torch.from_numpy(llama3_factors(config))
        return cls(shape, frequencies, {name: tensor.shape for name, tensor in stored.items()}, stored)

    def read(self, name: str, out: Tensor) -> None:
        with safe_open(self.stored[name].file, framework="pt") as file:
            out.copy_(file.get_tensor(name))

    def packed(self, name: str) -> Packed | None:
        tensor = self.stored[name]
        return Packed(as_tensor(tensor.mapped()), Kind[tensor.dtype]) if tensor.dtype in PACKABLE else None


def covered(folder: Path) -> bool:
    """By what ``config.json`` says; a window over the last tokens, or another activation, is for transformers."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    window = config.get("sliding_window") if config.get("use_sliding_window", True) else None
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type") or rope.get("type") or "default"
    return (
        config.get("model_type") in KINDS
        and config.get("hidden_act", "silu") == "silu"
        and window is None
        and kind in {"default", "linear", "llama3"}
        and not config.get("attention_bias")
        and not config.get("mlp_bias")
        and "model.embed_tokens.weight" in stored_tensors(folder, "model.safetensors")
    )
