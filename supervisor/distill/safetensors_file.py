"""Reading safetensors one tensor at a time with numpy alone, bfloat16 included.

File: 8 bytes little-endian header length, a JSON header {name: {dtype, shape, data_offsets}}, the data.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from supervisor.errors import GgufError

_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that is still on disk."""

    file: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    def mapped(self) -> NDArray[np.uint8]:
        """A matrix's bytes where they lie in the file: (rows, bytes of a row)."""
        shape = self.shape[0], (self.end - self.begin) // self.shape[0]
        return np.memmap(self.file, mode="r", offset=self.begin, shape=shape)

    def load(self) -> NDArray[np.float32]:
        """The values as float32, row-major."""
        with self.file.open("rb") as source:
            source.seek(self.begin)
            raw = np.frombuffer(source.read(self.end - self.begin), dtype=_DTYPES[self.dtype])
        if self.dtype == "BF16":  # the upper half of a float32
            raw = (raw.astype(np.uint32) << 16).view(np.float32)
        return np.ascontiguousarray(raw.astype(np.float32, copy=False).reshape(self.shape))


def stored_tensors(folder: Path, name: str) -> dict[str, StoredTensor]:
    """All tensors of ``folder/name`` or, for a sharded model, of the files its index lists."""
    index = folder / f"{name}.index.json"
    if index.is_file():
        files = sorted({folder / part for part in json.loads(index.read_text())["weight_map"].values()})
    else:
        files = [folder / name]
    tensors: dict[str, StoredTensor] = {}
    for file in files:
        tensors |= _header(file)
    return tensors


def _header(file: Path) -> dict[str, StoredTensor]:
    try:
        with file.open("rb") as source:
            length = int.from_bytes(source.read(8), "little")
            if not 2 <= length <= file.stat().st_size - 8:
                raise GgufError(f"{file} is not a complete safetensors file; copy or download it again")
            header: dict[str, Any] = json.loads(source.read(length))
    except FileNotFoundError as exc:
        raise GgufError(f"{file} is missing; export needs the weights as safetensors") from exc
    except ValueError as exc:
        raise GgufError(f"{file} has a damaged header ({exc}); copy or download it again") from exc
    header.pop("__metadata__", None)
    data = 8 + length
    return {name: _stored(file, name, entry, data) for name, entry in header.items()}


def _stored(file: Path, name: str, entry: dict[str, Any], data: int) -> StoredTensor:
    begin, end = entry["data_offsets"]
    if entry["dtype"] not in _DTYPES:
        raise GgufError(f"{file}: {name} has type {entry['dtype']}; only {', '.join(_DTYPES)} can be exported")
    if data + end > file.stat().st_size:
        raise GgufError(f"{file} is cut off before the end of {name}; copy or download it again")
    return StoredTensor(file, name, entry["dtype"], tuple(entry["shape"]), data + begin, data + end)
