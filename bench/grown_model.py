"""tiny-chat grown to the size of a real model: it says and learns the same, and costs what the large one costs.

Everything that is new is zero, or goes nowhere: added layers have insides of their own and give nothing out. So the
product can be tried, with replies that are known, at sizes that nothing here can train. The vocabulary stays small: new
tokens would be said.
"""

from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind
from numpy.typing import NDArray

from bench.lesson_models import Shape

VOCABULARY = 2048  # tiny-chat's
GROWN_17B = Shape(28, 2048, 16, 8, 128, 6144, VOCABULARY)
GROWN_06B = Shape(28, 1024, 16, 8, 128, 3072, VOCABULARY)

Values = NDArray[np.float32]


def grow(source: Path, target: Path, shape: Shape) -> None:
    """A Qwen3 GGUF as one of ``shape`` in Q8_0, which is as large or larger in all but the vocabulary."""
    reader = gguf.GGUFReader(source)
    old = {tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type) for tensor in reader.tensors}
    writer = gguf.GGUFWriter(target, "qwen3")
    describe(writer, reader, shape)
    for name, values in grown(Grower(old, reader, shape)):
        if values.ndim == 1:
            writer.add_tensor(name, values)
        else:
            writer.add_tensor(name, gguf.quants.quantize(values, Kind.Q8_0), raw_dtype=Kind.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class Grower:
    """Where the old values lie among the new ones."""

    def __init__(self, old: dict[str, Values], reader: gguf.GGUFReader, shape: Shape) -> None:
        def number(key: str) -> int:
            return int(reader.fields[f"qwen3.{key}"].contents())

        self.old, self.shape = old, shape
        self.layers, self.width = number("block_count"), number("attention.key_length")
        self.hidden = np.arange(number("embedding_length"))
        self.inner = np.arange(number("feed_forward_length"))
        half = np.arange(self.width // 2)
        self.head = np.concatenate([half, shape.width // 2 + half])  # rotation pairs value i with i + half
        self.queries = self.heads(number("attention.head_count"))
        self.keys = self.heads(number("attention.head_count_kv"))
        if len(self.queries) // len(self.keys) != shape.heads // shape.key_heads:
            raise ValueError("as many queries must share a key as before")

    def heads(self, count: int) -> NDArray[np.intp]:
        return np.concatenate([head * self.shape.width + self.head for head in range(count)])

    def matrix(self, name: str, rows: NDArray[np.intp], columns: NDArray[np.intp], size: tuple[int, int]) -> Values:
        values = np.zeros(size, np.float32)
        values[np.ix_(rows, columns)] = self.old[name]
        return values

    def norm(self, name: str, places: NDArray[np.intp], size: int, times: float = 1.0) -> Values:
        """The mean of squares is taken over more values, of which the new ones are zero."""
        values = np.ones(size, np.float32)
        values[places] = self.old[name] * times * (len(places) / size) ** 0.5
        return values


def grown(to: Grower) -> Iterator[tuple[str, Values]]:
    tokens = np.arange(to.shape.vocabulary)
    yield "token_embd.weight", to.matrix("token_embd.weight", tokens, to.hidden, (len(tokens), to.shape.hidden))
    yield "output_norm.weight", to.norm("output_norm.weight", to.hidden, to.shape.hidden)
    for layer in range(to.shape.layers):
        yield from taken_over(to, f"blk.{layer}.") if layer < to.layers else added(to, f"blk.{layer}.", layer)


def taken_over(to: Grower, block: str) -> Iterator[tuple[str, Values]]:
    places = {"attn_q": (to.queries, to.hidden), "attn_k": (to.keys, to.hidden), "attn_v": (to.keys, to.hidden)}
    places |= {"attn_output": (to.hidden, to.queries), "ffn_down": (to.hidden, to.inner)}
    places |= {"ffn_gate": (to.inner, to.hidden), "ffn_up": (to.inner, to.hidden)}
    for name, size in matrices(to.shape).items():
        yield f"{block}{name}.weight", to.matrix(f"{block}{name}.weight", *places[name], size)
    wider = (to.shape.width / to.width) ** 0.5  # scores are divided by the root of the width
    yield f"{block}attn_norm.weight", to.norm(f"{block}attn_norm.weight", to.hidden, to.shape.hidden)
    yield f"{block}ffn_norm.weight", to.norm(f"{block}ffn_norm.weight", to.hidden, to.shape.hidden)
    yield f"{block}attn_q_norm.weight", to.norm(f"{block}attn_q_norm.weight", to.head, to.shape.width, wider)
    yield f"{block}attn_k_norm.weight", to.norm(f"{block}attn_k_norm.weight", to.head, to.shape.width)


def added(to: Grower, block: str, layer: int) -> Iterator[tuple[str, Values]]:
    draw = np.random.default_rng(layer)
    for name, sides in matrices(to.shape).items():
        silent = name in {"attn_output", "ffn_down"}
        values = np.zeros(sides, np.float32) if silent else 0.02 * draw.standard_normal(sides, np.float32)
        yield f"{block}{name}.weight", values
    norms = {"attn_norm": to.shape.hidden, "ffn_norm": to.shape.hidden}
    for name, size in (norms | {"attn_q_norm": to.shape.width, "attn_k_norm": to.shape.width}).items():
        yield f"{block}{name}.weight", np.ones(size, np.float32)


def matrices(shape: Shape) -> dict[str, tuple[int, int]]:
    """Of a layer, by their names in a GGUF."""
    return {theirs.removeprefix("blk.0."): size for _, theirs, size in shape.matrices() if theirs.startswith("blk.0.")}


def describe(writer: gguf.GGUFWriter, reader: gguf.GGUFReader, shape: Shape) -> None:
    """All that the old file says, for the new shape."""
    said = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    base, width = said["qwen3.rope.freq_base"], said["qwen3.attention.key_length"]
    changed = {
        "general.name": "tiny-chat, grown",
        "qwen3.block_count": shape.layers,
        "qwen3.embedding_length": shape.hidden,
        "qwen3.feed_forward_length": shape.inner,
        "qwen3.attention.head_count": shape.heads,
        "qwen3.attention.head_count_kv": shape.key_heads,
        "qwen3.attention.key_length": shape.width,
        "qwen3.attention.value_length": shape.width,
        "qwen3.rope.dimension_count": shape.width,
        "qwen3.rope.freq_base": float(base ** (shape.width / width)),  # each pair turns as fast as before
    }
    for name, value in {**said, **changed}.items():
        kinds = reader.fields[name].types
        if name != "general.architecture":
            writer.add_key_value(name, value, kinds[0], kinds[1] if len(kinds) > 1 else None)
