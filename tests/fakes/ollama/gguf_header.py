"""What a GGUF file says about itself, for /api/show and /api/create."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import gguf

LONG_LIST = 5  # elements; longer lists are shown empty


class NotGguf(ValueError):
    """The file does not begin as a GGUF file does."""


@dataclass(frozen=True)
class Header:
    values: dict[str, Any]
    tensors: tuple[dict[str, Any], ...]
    parameters: int

    @property
    def kind(self) -> str:
        return str(self.values.get("general.type", "model"))

    @property
    def architecture(self) -> str:
        return str(self.values.get("general.architecture", "unknown"))

    @property
    def file_type(self) -> str:
        number = self.values.get("general.file_type")
        if number is None:
            return "unknown"
        return str(gguf.LlamaFileType(number).name).removeprefix("MOSTLY_").removeprefix("ALL_")

    @property
    def trained_context(self) -> int:
        return int(self.values.get(f"{self.architecture}.context_length", 0))

    @property
    def chat_template(self) -> str:
        return str(self.values.get("tokenizer.chat_template", ""))

    def shown(self, *, verbose: bool) -> dict[str, Any]:
        """``model_info`` of /api/show: no name, no template, long lists only on demand."""
        hidden = {"general.name", "tokenizer.chat_template"}
        return {
            key: [] if isinstance(value, list) and len(value) > LONG_LIST and not verbose else value
            for key, value in self.values.items()
            if key not in hidden
        }


def read_header(path: Path) -> Header:
    """Raises NotGguf, FileNotFoundError."""
    found = path.stat()
    named_by_content = path.name.startswith("sha256-")  # a blob is touched often, and never changes
    return _read(path, found.st_size, 0 if named_by_content else found.st_mtime_ns)


@lru_cache(maxsize=64)
def _read(path: Path, _size: int, _changed: int) -> Header:
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise NotGguf("invalid file magic")
    try:
        reader = gguf.GGUFReader(path)
    except (ValueError, IndexError) as exc:
        raise NotGguf(f"unexpected EOF ({exc})") from exc
    values = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    tensors = tuple(
        {"name": tensor.name, "type": tensor.tensor_type.name, "shape": [int(side) for side in tensor.shape]}
        for tensor in reader.tensors
    )
    return Header(values, tensors, sum(int(tensor.n_elements) for tensor in reader.tensors))


def human_number(count: int) -> str:
    """``parameter_size`` as Ollama writes it: 8.0B is 8B, 1.23 million is 1.23M."""
    for unit, letter, digits in ((10**9, "B", 1), (10**6, "M", 2), (10**3, "K", 0)):
        if count >= unit:
            return f"{count / unit:.0f}{letter}" if count % unit == 0 else f"{count / unit:.{digits}f}{letter}"
    return str(count)
