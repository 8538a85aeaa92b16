"""Reading a model from a GGUF file, one tensor in memory at a time."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from supervisor.errors import DistillError


class GgufModel:
    """The file stays mapped while this lives. DistillError when it is no GGUF, or not whole."""

    def __init__(self, path: Path) -> None:
        try:
            self._reader = gguf.GGUFReader(path)
        except (ValueError, OSError, IndexError) as exc:
            raise DistillError(f"{path} cannot be read as GGUF: {exc}") from exc
        if self._reader.byte_order != "I" or not self._reader.tensors:
            raise DistillError(f"{path} is a GGUF of another byte order, or without tensors; download the model again")
        self.path = path
        self.tensors: Mapping[str, gguf.ReaderTensor] = {tensor.name: tensor for tensor in self._reader.tensors}
        self.architecture = str(self.get("general.architecture"))

    @property
    def alignment(self) -> int:
        return int(self._reader.alignment)

    @property
    def metadata(self) -> bytes:
        """The file up to its list of tensors, as it is."""
        return bytes(self._reader.data[: self._reader.tensors[0].field.offset])

    def get(self, key: str) -> Any:  # noqa: ANN401 - what the file says: number, text, bool or list
        field = self._reader.get_field(key)
        return None if field is None else field.contents()

    def of_model(self, key: str) -> Any:  # noqa: ANN401 - see get
        """A value that the architecture has under its own name."""
        return self.get(f"{self.architecture}.{key}")

    def number(self, key: str) -> int:
        """One of the architecture's numbers. DistillError when it is missing, or differs from layer to layer."""
        value = self.of_model(key)
        if not isinstance(value, int | float):
            problem = "has no" if value is None else "has one per layer of"
            raise DistillError(f"{self.path} {problem} {self.architecture}.{key}; lessons need one number for it")
        return int(value)

    def strings(self, key: str) -> list[str]:
        return [str(value) for value in self._list(key)]

    def integers(self, key: str) -> list[int]:
        return [int(value) for value in self._list(key)]

    def load(self, name: str) -> NDArray[np.float32]:
        """One tensor's values, row-major, whatever it is stored as."""
        shape = [int(side) for side in reversed(self.tensors[name].shape)]
        return self.rows(name, slice(None)).reshape(shape)

    def rows(self, name: str, which: slice | NDArray[np.intp]) -> NDArray[np.float32]:
        """Some rows of a tensor, as values of our own."""
        tensor = self.tensors[name]
        try:
            values = gguf.quants.dequantize(tensor.data[which], tensor.tensor_type)
        except NotImplementedError as exc:
            raise DistillError(
                f"{self.path}: {name} is stored as {tensor.tensor_type.name}, which cannot be read"
            ) from exc
        return np.require(values, np.float32, ["C", "W"])  # a copy, where it was a view of the file

    def _list(self, key: str) -> list[Any]:
        value = self.get(key)
        if not isinstance(value, list):
            raise DistillError(f"{self.path} has no {key}; it does not carry its tokenizer")
        return value
