"""Reading a GGUF file: what it says about itself, and its tensors, a few rows in memory at a time.

The ``gguf`` package reads headers too, but takes seconds for a large vocabulary (7 s for 152,000 tokens; this, 0.5 s).
Layout: magic, version, counts, key-value pairs, list of tensors, padding, data; all numbers little-endian.
"""

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind
from numpy.typing import NDArray

from supervisor.errors import GgufError

VERSIONS = (2, 3)
HEAD = 24  # bytes before the first key
ALIGNMENT = 32  # of the data, unless the file says otherwise
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9


@dataclass(frozen=True)
class Tensor:
    """``shape`` with the rows first, as numpy has it; ``begin`` and ``size`` in bytes."""

    name: str
    shape: tuple[int, ...]
    kind: Kind
    begin: int
    size: int


class _Cursor:
    """Reads one value after the other."""

    def __init__(self, data: mmap.mmap, place: int) -> None:
        self.data = data
        self.place = place

    def numbers(self, code: str, count: int = 1) -> tuple[Any, ...]:
        found = struct.unpack_from(f"<{count}{code}", self.data, self.place)
        self.place += struct.calcsize(f"<{count}{code}")
        return found

    def number(self, code: str) -> Any:  # noqa: ANN401 - what the code says
        return self.numbers(code)[0]

    def string(self) -> str:
        length = self.number("Q")
        self.place += length
        return self.data[self.place - length : self.place].decode("utf-8", errors="replace")

    def value(self, kind: int) -> Any:  # noqa: ANN401 - number, text, bool or list
        if kind == STRING:
            return self.string()
        if kind != ARRAY:
            return self.number(NUMBERS[kind])
        inner, count = self.number("I"), self.number("Q")
        if inner in NUMBERS:
            return list(self.numbers(NUMBERS[inner], count))
        return [self.value(inner) for _ in range(count)]


class GgufModel:
    """The file stays mapped while this lives. GgufError when it is no GGUF, or not whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._values, self.tensors, self._tensors_at = self._header()
        except (ValueError, OSError, KeyError, struct.error, OverflowError) as exc:
            raise GgufError(f"{path} cannot be read as GGUF: {exc}") from exc
        self.architecture = str(self.get("general.architecture"))

    @property
    def alignment(self) -> int:
        return int(self.get("general.alignment") or ALIGNMENT)

    @property
    def metadata(self) -> bytes:
        """The file up to its list of tensors, as it is."""
        return self._data[: self._tensors_at]

    def get(self, key: str) -> Any:  # noqa: ANN401 - what the file says: number, text, bool or list
        return self._values.get(key)

    def of_model(self, key: str) -> Any:  # noqa: ANN401 - see get
        """A value that the architecture has under its own name."""
        return self.get(f"{self.architecture}.{key}")

    def number(self, key: str) -> int:
        """One of the architecture's numbers. GgufError when it is missing, or differs from layer to layer."""
        value = self.of_model(key)
        if not isinstance(value, int | float):
            problem = "has no" if value is None else "has one per layer of"
            raise GgufError(f"{self.path} {problem} {self.architecture}.{key}; lessons need one number for it")
        return int(value)

    def strings(self, key: str) -> list[str]:
        return [str(value) for value in self._list(key)]

    def integers(self, key: str) -> list[int]:
        return [int(value) for value in self._list(key)]

    def load(self, name: str) -> NDArray[np.float32]:
        """One tensor's values, row-major, whatever it is stored as."""
        return self.rows(name, slice(None)).reshape(self.tensors[name].shape)

    def rows(self, name: str, which: slice | NDArray[np.intp]) -> NDArray[np.float32]:
        """Some rows of a tensor, as values of our own."""
        tensor = self.tensors[name]
        try:
            values = gguf.quants.dequantize(self.stored(tensor)[which], tensor.kind)
        except NotImplementedError as exc:
            raise GgufError(f"{self.path}: {name} is stored as {tensor.kind.name}, which cannot be read") from exc
        return np.require(values, np.float32, ["C", "W"])  # a copy, where it was a view of the file

    def stored(self, tensor: Tensor) -> NDArray[np.uint8]:
        """A tensor's bytes in the file, row by row."""
        whole = np.frombuffer(self._data, np.uint8, tensor.size, tensor.begin)
        return whole.reshape(prod(tensor.shape[:-1]), -1)

    def _header(self) -> tuple[dict[str, Any], Mapping[str, Tensor], int]:
        magic, version, tensors, pairs = struct.unpack_from("<4sIQQ", self._data, 0)
        if magic != b"GGUF" or version not in VERSIONS or not tensors:
            raise ValueError(f"it begins with {magic!r}, version {version}, {tensors} tensors")
        cursor = _Cursor(self._data, HEAD)
        values = {cursor.string(): cursor.value(cursor.number("I")) for _ in range(pairs)}
        tensors_at = cursor.place
        entries = [
            (cursor.string(), cursor.numbers("Q", cursor.number("I")), *cursor.numbers("I"), *cursor.numbers("Q"))
            for _ in range(tensors)
        ]
        alignment = int(values.get("general.alignment") or ALIGNMENT)
        data = cursor.place + -cursor.place % alignment
        return values, {name: self._tensor(name, side, kind, data + at) for name, side, kind, at in entries}, tensors_at

    def _tensor(self, name: str, sides: tuple[int, ...], kind: int, begin: int) -> Tensor:
        block, width = gguf.GGML_QUANT_SIZES[Kind(kind)]
        tensor = Tensor(name, tuple(reversed(sides)), Kind(kind), begin, prod(sides) // int(block) * int(width))
        if begin + tensor.size > len(self._data):
            raise ValueError(f"it ends before the end of {name}; download it again")
        return tensor

    def _list(self, key: str) -> list[Any]:
        value = self.get(key)
        if not isinstance(value, list):
            raise GgufError(f"{self.path} has no {key}; it does not carry its tokenizer")
        return value
