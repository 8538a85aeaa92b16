"""What a GGUF says about itself, read with the standard library alone.

The trainer has a reader of its own, for values: it is shipped without the rest of us, and nobody imports it.
Layout: magic, version, counts, key-value pairs, list of tensors; all numbers little-endian
(https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).
"""

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from supervisor.errors import SettingsError

VERSIONS = (2, 3)
HEAD = 24  # bytes before the first key
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
LONG = 1024  # entries of a list that is stepped over, as a vocabulary is


@dataclass(frozen=True)
class Header:
    """``values``: the key-value pairs, without long lists and lists of text. ``parameters``: in all tensors."""

    values: Mapping[str, Any]
    parameters: int

    @property
    def architecture(self) -> str:
        return str(self.values.get("general.architecture", ""))

    def of_model(self, key: str) -> Any:  # noqa: ANN401 - what the file says: number, text, bool or list
        """A value that the architecture has under its own name."""
        return self.values.get(f"{self.architecture}.{key}")


def read_header(path: Path) -> Header:
    """SettingsError when it cannot be read, is no GGUF, or does not even have its beginning."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            magic, version, tensors, pairs = struct.unpack_from("<4sIQQ", data, 0)
            if magic != b"GGUF" or version not in VERSIONS:
                raise ValueError(f"it begins with {magic!r}, version {version}")
            cursor = _Cursor(data, HEAD)
            values = {cursor.string(): cursor.value(cursor.number("I")) for _ in range(pairs)}
            entries = [cursor.tensor() for _ in range(tensors)]
            if cursor.place + max((entry.place for entry in entries), default=0) >= len(data):
                raise ValueError("it ends before its last tensor begins")
            return Header(values, sum(entry.parameters for entry in entries))
    except (struct.error, OverflowError) as exc:
        raise SettingsError(f"{path} is no GGUF, or ends before its tensors begin; download it again") from exc
    except OSError as exc:
        raise SettingsError(f"{path} cannot be read: {exc.strerror}") from exc
    except (ValueError, KeyError) as exc:
        raise SettingsError(f"{path} cannot be read as GGUF: {exc}; download it again") from exc


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

    def skip(self, length: int) -> None:
        self.place += length

    def value(self, kind: int) -> Any:  # noqa: ANN401 - number, text, bool or list
        """None for a list that is left out."""
        if kind == STRING:
            return self.string()
        return self.entries() if kind == ARRAY else self.number(NUMBERS[kind])

    def entries(self) -> list[Any] | None:
        kind, count = self.number("I"), self.number("Q")
        if kind in NUMBERS and count <= LONG:
            return list(self.numbers(NUMBERS[kind], count))
        if kind in NUMBERS:
            self.skip(count * struct.calcsize(f"<{NUMBERS[kind]}"))
        elif kind == STRING:
            for _ in range(count):
                self.skip(self.number("Q"))
        else:
            for _ in range(count):
                self.value(kind)
        return None

    def tensor(self) -> "_Entry":
        """Of the list of tensors: name, sides, type, place."""
        self.string()
        sides = self.numbers("Q", self.number("I"))
        self.number("I")
        return _Entry(prod(sides), self.number("Q"))


class _Entry(NamedTuple):
    """A tensor: how many values it has, and where it begins, in bytes behind the list and the padding after it."""

    parameters: int
    place: int
