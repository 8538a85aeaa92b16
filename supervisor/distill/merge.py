"""``python -m supervisor.distill.merge BASE ADAPTER OUT ANSWER [--plan | --check]``: an adapter added into its base.

For servers that take no adapters. Tensors that the adapter does not touch are copied byte for byte, so is the
metadata; a few rows at a time are in memory. ``ANSWER`` becomes a JSON object: ``size`` in bytes of the merged file,
``types`` as ``{"Q4_K to Q8_0": tensors}``, or ``problem``. With ``--plan`` nothing else is written; ``--check`` only
looks whether the adapter fits.

Each changed tensor gets the smallest type that keeps the lesson, its own first: a rounded weight rounds right back to
itself when the lesson moved it by less than half a step, so that is measured on a sample of its rows. None gets fewer
than eight bits: rounding to four or five a second time adds noise half as large as a lesson (measured).
"""

import json
import struct
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind
from numpy.typing import NDArray

from supervisor.distill.gguf_file import replacing
from supervisor.distill.gguf_read import GgufModel, Tensor
from supervisor.errors import DistillError, GgufError

WRITTEN = (Kind.Q8_0, Kind.BF16, Kind.F16, Kind.F32)  # types that a changed tensor may keep
LARGER = (Kind.Q8_0, Kind.F16, Kind.F32)  # what another becomes, smallest first
KEPT = 0.9  # share of the lesson that must survive the rounding, along its own direction
SAMPLE = 64  # rows on which that is measured
ROWS = 1024  # rows in memory at a time
STEPS = 20  # progress lines


@dataclass(frozen=True)
class Delta:
    """What the adapter adds to one tensor: ``scale * b @ a``; a is (rank, inputs), b is (outputs, rank)."""

    a: NDArray[np.float32]
    b: NDArray[np.float32]
    scale: float

    def rows(self, which: slice | NDArray[np.intp]) -> NDArray[np.float32]:
        values: NDArray[np.float32] = (self.b[which] @ self.a) * np.float32(self.scale)
        return values

    @property
    def is_nothing(self) -> bool:
        return not (self.a.any() and self.b.any() and self.scale)


@dataclass(frozen=True)
class Part:
    """One tensor of the merged file."""

    tensor: Tensor
    delta: Delta | None  # None: copied as it is
    kind: Kind

    @property
    def size(self) -> int:
        return int(prod(self.tensor.shape) * bits(self.kind) / 8)


@dataclass(frozen=True)
class Merge:
    """A merged file that is not written yet."""

    base: GgufModel
    parts: tuple[Part, ...]

    @property
    def size(self) -> int:
        return len(self.header) + sum(part.size + padding(part.size, self.base.alignment) for part in self.parts)

    @property
    def header(self) -> bytes:
        """All that comes before the data: the base's own metadata, and where each tensor lies now."""
        table, offset = [], 0
        for part in self.parts:
            name, shape = part.tensor.name.encode(), part.tensor.shape[::-1]  # ggml lists the fastest axis first
            table.append(struct.pack("<Q", len(name)) + name + struct.pack(f"<I{len(shape)}Q", len(shape), *shape))
            table.append(struct.pack("<IQ", part.kind, offset))
            offset += part.size + padding(part.size, self.base.alignment)
        head = self.base.metadata + b"".join(table)
        return head + bytes(padding(len(head), self.base.alignment))

    @property
    def types(self) -> dict[str, int]:
        changed = [part for part in self.parts if part.delta is not None]
        return dict(Counter(f"{part.tensor.kind.name} to {part.kind.name}" for part in changed))


def plan(base: GgufModel, adapter: GgufModel) -> Merge:
    """Raises GgufError when the adapter is not one for this base."""
    if int(base.get("split.count") or 1) > 1:
        raise GgufError(f"{base.path} is one part of several; merging needs a model in one file")
    deltas = read_deltas(base, adapter)
    return Merge(base, tuple(part_of(base, tensor, deltas.get(tensor.name)) for tensor in base.tensors.values()))


def read_deltas(base: GgufModel, adapter: GgufModel) -> dict[str, Delta]:
    """By the name of the tensor that each belongs to."""
    if adapter.get("general.type") != "adapter" or adapter.get("adapter.type") != "lora":
        raise GgufError(f"{adapter.path} is no LoRA adapter")
    if adapter.architecture != base.architecture:
        raise GgufError(f"{adapter.path} is for {adapter.architecture!r}, {base.path} is {base.architecture!r}")
    alpha = float(adapter.get("adapter.lora.alpha") or 0.0)
    names = {name.removesuffix(".lora_a") for name in adapter.tensors if name.endswith(".lora_a")}
    if unpaired := sorted(set(adapter.tensors) ^ {f"{name}.lora_{side}" for name in names for side in "ab"}):
        raise GgufError(f"{adapter.path}: {unpaired[0]} is only one half of a LoRA pair")
    return {name: read_delta(base, adapter, name, alpha) for name in sorted(names)}


def read_delta(base: GgufModel, adapter: GgufModel, name: str, alpha: float) -> Delta:
    a, b = adapter.load(f"{name}.lora_a"), adapter.load(f"{name}.lora_b")
    if name not in base.tensors:
        raise GgufError(f"{adapter.path} adapts {name}, which {base.path} does not have")
    shape = base.tensors[name].shape  # (outputs, inputs)
    if a.ndim != 2 or b.ndim != 2 or (b.shape[0], a.shape[1]) != shape or a.shape[0] != b.shape[1]:
        raise GgufError(f"{adapter.path}: {name} is {a.shape} by {b.shape}, in {base.path} {shape}: another base's")
    return Delta(a, b, alpha / a.shape[0])  # llama.cpp's scale


def part_of(base: GgufModel, tensor: Tensor, delta: Delta | None) -> Part:
    if delta is None or delta.is_nothing:
        return Part(tensor, None, tensor.kind)
    kind = next((kind for kind in choices(tensor) if keeps(base, tensor, delta, kind)), None)
    if kind is None:
        raise GgufError(f"{tensor.name} with its adapter is not finite, or beyond any type; the adapter is broken")
    return Part(tensor, delta, kind)


def choices(tensor: Tensor) -> Iterator[Kind]:
    """Its own type, if it may stay, and then larger ones."""
    own, length = tensor.kind, tensor.shape[-1]
    if own in WRITTEN:
        yield own
    yield from (kind for kind in LARGER if bits(kind) > bits(own) and length % int(gguf.GGML_QUANT_SIZES[kind][0]) == 0)


def bits(kind: Kind) -> Fraction:
    """Per value."""
    block, width = gguf.GGML_QUANT_SIZES[kind]
    return Fraction(8 * int(width), int(block))


def keeps(base: GgufModel, tensor: Tensor, delta: Delta, kind: Kind) -> bool:
    """Whether enough of the lesson is left when the sum is rounded to this type."""
    count = tensor.shape[0]
    which = np.unique(np.linspace(0, count - 1, min(SAMPLE, count)).astype(np.intp))
    wanted = delta.rows(which)
    size = float(np.vdot(wanted, wanted))
    if size == 0.0:
        return True
    before = base.rows(tensor.name, which)
    stored = gguf.quants.quantize(before + wanted, kind)
    after = gguf.quants.dequantize(stored, kind).astype(np.float32)
    return bool(abs(float(np.vdot(after - before, wanted)) / size - 1.0) <= 1.0 - KEPT)


def write(merge: Merge, out: Path) -> None:
    """Whole or not at all. OSError when the disk does not take it."""
    with replacing(out) as scratch, scratch.open("wb") as file:
        file.write(merge.header)
        for number, part in enumerate(merge.parts):
            if number % -(-len(merge.parts) // STEPS) == 0:
                say(f"merging: {100 * number // len(merge.parts)} %")
            for piece in pieces(merge.base, part):
                file.write(np.ascontiguousarray(piece).view(np.uint8).data)
            file.write(bytes(padding(part.size, merge.base.alignment)))
        check_size(file, merge.size)


def pieces(base: GgufModel, part: Part) -> Iterator[NDArray[Any]]:
    """The tensor's bytes, a few rows at a time. GgufError for values that no model can have."""
    if part.delta is None:
        yield base.stored(part.tensor)
        return
    for first in range(0, part.tensor.shape[0], ROWS):
        rows = slice(first, first + ROWS)
        values = base.rows(part.tensor.name, rows) + part.delta.rows(rows)
        if not np.isfinite(values).all():
            raise GgufError(f"{part.tensor.name} with its adapter is not finite; the training run diverged")
        yield gguf.quants.quantize(values, part.kind)


def check_size(file: BinaryIO, planned: int) -> None:
    if file.tell() != planned:
        raise GgufError(f"the merged file has {file.tell()} bytes instead of {planned}; please report this")


def padding(size: int, alignment: int) -> int:
    return -size % alignment


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(argv: Sequence[str]) -> int:
    base, adapter, out, answer = map(Path, argv[:4])
    told: dict[str, object] = {}
    try:
        if "--check" in argv:
            read_deltas(GgufModel(base), GgufModel(adapter))
        else:
            merge = plan(GgufModel(base), GgufModel(adapter))
            told = {"size": merge.size, "types": merge.types}
            if "--plan" not in argv:
                write(merge, out)
    except DistillError as exc:
        told = {"problem": str(exc)}
    except OSError as exc:
        told = {"problem": f"{out} cannot be written: {exc.strerror}; make room there"}
    answer.write_text(json.dumps(told))
    return int("problem" in told)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
