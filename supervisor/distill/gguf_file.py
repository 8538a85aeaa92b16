"""Writing a GGUF whole or not at all, one tensor in memory at a time."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gguf
import numpy as np
from numpy.typing import NDArray

from supervisor.errors import GgufError

Kind = Literal["f32", "f16"]
F16_LARGEST = 65504.0


@dataclass(frozen=True)
class Planned:
    """A tensor to be written: its place in the file is fixed before its values are read."""

    name: str
    shape: tuple[int, ...]
    kind: Kind
    load: Callable[[], NDArray[np.float32]]


def write_gguf(
    out: Path, architecture: str, describe: Callable[[gguf.GGUFWriter], None], tensors: Sequence[Planned]
) -> None:
    """Write ``out`` atomically. ``describe`` adds the metadata to a ``gguf.GGUFWriter``."""
    with replacing(out) as scratch:
        writer = gguf.GGUFWriter(scratch, architecture)
        try:
            describe(writer)
            for tensor in tensors:
                dtype = np.dtype(np.float16 if tensor.kind == "f16" else np.float32)
                writer.add_tensor_info(tensor.name, tensor.shape, dtype, int(np.prod(tensor.shape)) * dtype.itemsize)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            for tensor in tensors:
                writer.write_tensor_data(_stored(tensor))
        finally:
            writer.close()


def _stored(tensor: Planned) -> NDArray[Any]:
    values = tensor.load()
    if not np.isfinite(values).all():
        raise GgufError(f"{tensor.name} holds values that are not finite; the training run diverged, use an older one")
    if tensor.kind == "f32":
        return values
    if np.abs(values).max(initial=0.0) > F16_LARGEST:
        raise GgufError(f"{tensor.name} holds values beyond the range of f16; export it as f32")
    return values.astype(np.float16)


@contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """A scratch path that takes the place of ``out`` when the block ends well, and vanishes when it does not."""
    scratch = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        yield scratch
        _sync(scratch)
        scratch.replace(out)
        _sync(out.parent)
    finally:
        scratch.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
