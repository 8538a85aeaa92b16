"""Random models for ``lesson.py``: their weights are the same numbers in float32, bfloat16 and Q8_0."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors.torch import save_file

SCALE = 2.0**-12  # of int8 values: a power of two, so that no format rounds


@dataclass(frozen=True)
class Shape:
    """Of a Qwen3 model."""

    layers: int
    hidden: int
    heads: int
    key_heads: int
    width: int
    inner: int
    vocabulary: int

    def matrices(self) -> Iterator[tuple[str, str, tuple[int, int]]]:
        """(name in transformers, name in a GGUF, shape)."""
        yield "model.embed_tokens", "token_embd", (self.vocabulary, self.hidden)
        queries, keys = self.heads * self.width, self.key_heads * self.width
        for index in range(self.layers):
            ours, theirs = f"model.layers.{index}", f"blk.{index}"
            yield f"{ours}.self_attn.q_proj", f"{theirs}.attn_q", (queries, self.hidden)
            yield f"{ours}.self_attn.k_proj", f"{theirs}.attn_k", (keys, self.hidden)
            yield f"{ours}.self_attn.v_proj", f"{theirs}.attn_v", (keys, self.hidden)
            yield f"{ours}.self_attn.o_proj", f"{theirs}.attn_output", (self.hidden, queries)
            yield f"{ours}.mlp.gate_proj", f"{theirs}.ffn_gate", (self.inner, self.hidden)
            yield f"{ours}.mlp.up_proj", f"{theirs}.ffn_up", (self.inner, self.hidden)
            yield f"{ours}.mlp.down_proj", f"{theirs}.ffn_down", (self.hidden, self.inner)

    def vectors(self) -> Iterator[tuple[str, str, int]]:
        yield "model.norm", "output_norm", self.hidden
        for index in range(self.layers):
            ours, theirs = f"model.layers.{index}", f"blk.{index}"
            yield f"{ours}.input_layernorm", f"{theirs}.attn_norm", self.hidden
            yield f"{ours}.post_attention_layernorm", f"{theirs}.ffn_norm", self.hidden
            yield f"{ours}.self_attn.q_norm", f"{theirs}.attn_q_norm", self.width
            yield f"{ours}.self_attn.k_norm", f"{theirs}.attn_k_norm", self.width


QWEN3_06B = Shape(28, 1024, 16, 8, 128, 3072, 151936)
TINY = Shape(4, 128, 4, 2, 32, 256, 1024)
QWEN3_8B = Shape(36, 4096, 32, 8, 128, 12288, 151936)


def make_model(folder: Path, shape: Shape) -> None:
    """``config.json`` and bfloat16 weights for transformers, and ``model.gguf`` in Q8_0."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config(shape)))
    numbers = {theirs: int8(place, size) for place, (_, theirs, size) in enumerate(shape.matrices())}
    weights = {
        f"{ours}.weight": (torch.from_numpy(numbers[theirs]) * SCALE).bfloat16() for ours, theirs, _ in shape.matrices()
    }
    weights |= {f"{ours}.weight": torch.ones(size, dtype=torch.bfloat16) for ours, _, size in shape.vectors()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    weights.clear()
    writer = gguf.GGUFWriter(folder / "model.gguf", "qwen3")
    describe(writer, shape)
    for _, theirs, _ in shape.matrices():
        writer.add_tensor(f"{theirs}.weight", q8_0(numbers[theirs]), raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    for _, theirs, size in shape.vectors():
        writer.add_tensor(f"{theirs}.weight", np.ones(size, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def config(shape: Shape) -> dict[str, object]:
    return {
        "model_type": "qwen3",
        "architectures": ["Qwen3ForCausalLM"],
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.inner,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.key_heads,
        "head_dim": shape.width,
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 40960,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
    }


def describe(writer: gguf.GGUFWriter, shape: Shape) -> None:
    writer.add_block_count(shape.layers)
    writer.add_embedding_length(shape.hidden)
    writer.add_feed_forward_length(shape.inner)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.key_heads)
    writer.add_key_length(shape.width)
    writer.add_value_length(shape.width)
    writer.add_context_length(40960)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e6)


def int8(seed: int, size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(seed).integers(-127, 128, size, dtype=np.int8)


def q8_0(values: np.ndarray) -> np.ndarray:
    """32 values behind one scale: 34 bytes."""
    blocks = values.reshape(-1, 32).view(np.uint8)
    scales = np.full((len(blocks), 1), SCALE, np.float16).view(np.uint8)
    return np.concatenate([scales, blocks], axis=1).reshape(len(values), -1)


def make_adapter(folder: Path, shape: Shape, rank: int = 32) -> None:
    """A LoRA on all linear layers that has learned something: B is not zero."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(1)
    weights = {}
    for ours, _, (outputs, inputs) in list(shape.matrices())[1:]:
        name = f"base_model.model.{ours}.lora_"
        weights[f"{name}A.weight"] = torch.empty(rank, inputs).uniform_(-1, 1, generator=generator) / inputs**0.5
        weights[f"{name}B.weight"] = torch.empty(outputs, rank).normal_(0, 0.01, generator=generator)
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    settings = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 2 * rank, "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps({**settings, "target_modules": names}))
