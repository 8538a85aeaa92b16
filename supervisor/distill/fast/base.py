"""The base model from a GGUF or a Hugging Face folder, without transformers, which is slow to load.

Covered: decoders of the Llama, Mistral, Qwen2 and Qwen3 kind. All others are for the plain recipe, or for nobody, which
``base`` then says.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from supervisor.distill.fast.decoder import Decoder, Layer, Shape
from supervisor.distill.fast.files import FolderFiles, GgufFiles
from supervisor.distill.fast.head import Head
from supervisor.distill.fast.linear import Linear
from supervisor.distill.fast.weights import Stack, Whole
from supervisor.distill.packed import Packed

QKV, GATE_UP = ("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj")


class Files(Protocol):
    """A model's files. Tensors go by the names that transformers gives them."""

    @property
    def shape(self) -> Shape: ...

    @property
    def frequencies(self) -> Tensor:
        """Of the rotation: (D/2,), float32."""

    @property
    def sizes(self) -> Mapping[str, tuple[int, ...]]: ...

    def read(self, name: str, out: Tensor) -> None:
        """Into ``out``, in its dtype."""

    def packed(self, name: str) -> Packed | None:
        """The matrix as it lies in the file, to be unpacked when it is used; None where that cannot be."""


def files_of(path: Path) -> Files | None:
    """None for what the fast engine does not cover. GgufError for files that cannot be read."""
    files: Files | None
    files = GgufFiles.of(path) if path.is_file() else FolderFiles.of(path)
    return files if files is not None and set(files.sizes) == expected(files) else None


def expected(files: Files) -> set[str]:
    """Names of all tensors of such a model: with one more, or less, it is of another kind."""
    biased = f"{attention(0)}q_proj.bias" in files.sizes
    normed = f"{attention(0)}q_norm.weight" in files.sizes
    names = {"model.embed_tokens.weight", "model.norm.weight", *({"lm_head.weight"} & set(files.sizes))}
    for index in range(files.shape.layers):
        names |= {f"{attention(index)}{name}.weight" for name in (*QKV, "o_proj")}
        names |= {f"{mlp(index)}{name}.weight" for name in (*GATE_UP, "down_proj")}
        names |= {f"model.layers.{index}.{name}_layernorm.weight" for name in ("input", "post_attention")}
        names |= {f"{attention(index)}{name}.bias" for name in QKV if biased}
        names |= {f"{attention(index)}{name}_norm.weight" for name in ("q", "k") if normed}
    return names


def attention(layer: int) -> str:
    return f"model.layers.{layer}.self_attn."


def mlp(layer: int) -> str:
    return f"model.layers.{layer}.mlp."


def stays_packed(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether weights stay in their file however much memory is free.

    A CPU multiplies float32 so slowly that unpacking them for each product costs 7 % of a step: less than four bytes a
    parameter are worth to everything else on the machine. bench/RESULTS.md has both.
    """
    return device.type == "cpu" and dtype == torch.float32


def load_decoder(files: Files, dtype: torch.dtype, *, packed: bool, device: torch.device) -> Decoder:
    """``packed``: matrices stay as the file has them, if they can."""
    scratch = torch.empty(files.shape.largest if packed else 0, dtype=dtype, device=device)
    load = Loader(files, scratch, packed=packed)
    embed = Head(files.shape.vocabulary, load.matrix("model.embed_tokens").rows)
    tied = "lm_head.weight" not in files.sizes
    return Decoder(
        shape=files.shape,
        embed=embed,
        layers=[load.layer(index) for index in range(files.shape.layers)],
        norm=load.vector("model.norm.weight"),
        head=embed if tied else Head(files.shape.vocabulary, load.matrix("lm_head").rows),
        frequencies=files.frequencies.to(device),
        dtype=dtype,
    )


@dataclass(frozen=True)
class Loader:
    """``scratch``: where the largest packed matrix is unpacked to; its dtype and device are the model's."""

    files: Files
    scratch: Tensor
    packed: bool

    def layer(self, index: int) -> Layer:
        heads, inner = attention(index), mlp(index)
        return Layer(
            attention_norm=self.vector(f"model.layers.{index}.input_layernorm.weight"),
            qkv=self.linear(*(heads + name for name in QKV)),
            q_norm=self.optional(f"{heads}q_norm.weight"),
            k_norm=self.optional(f"{heads}k_norm.weight"),
            o=self.linear(f"{heads}o_proj"),
            mlp_norm=self.vector(f"model.layers.{index}.post_attention_layernorm.weight"),
            gate_up=self.linear(*(inner + name for name in GATE_UP)),
            down=self.linear(f"{inner}down_proj"),
        )

    def linear(self, *names: str) -> Linear:
        biases = [bias for name in names if (bias := self.optional(f"{name}.bias")) is not None]
        return Linear(self.matrix(*names).all, torch.cat(biases) if biases else None)

    def matrix(self, *names: str) -> Whole | Stack:
        """These, one below the other."""
        weights = [f"{name}.weight" for name in names]
        if self.packed:
            found = [part.to(self.scratch.device) for name in weights if (part := self.files.packed(name)) is not None]
            if len(found) == len(weights):
                return Stack(found, self.scratch)
        heights = [self.files.sizes[name][0] for name in weights]
        values = self.scratch.new_empty(sum(heights), self.files.sizes[weights[0]][1])
        for name, rows in zip(weights, torch.split(values, heights), strict=True):
            self.files.read(name, rows)
        return Whole(values)

    def optional(self, name: str) -> Tensor | None:
        return self.vector(name) if name in self.files.sizes else None

    def vector(self, name: str) -> Tensor:
        values = self.scratch.new_empty(self.files.sizes[name])
        self.files.read(name, values)
        return values
