"""GGUF files taken apart and put together differently."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray


def values(path: Path) -> dict[str, NDArray[np.float32]]:
    """Every tensor of a file as float32."""
    return {
        tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        for tensor in gguf.GGUFReader(path).tensors
    }


def changed(source: Path, target: Path, metadata: dict[str, Any]) -> None:
    """A copy with other metadata; None leaves a value out."""
    reader = gguf.GGUFReader(source)
    kept = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    types = {name: field.types for name, field in reader.fields.items()}
    wanted = {**kept, **metadata}
    writer = gguf.GGUFWriter(target, str(wanted.pop("general.architecture")))
    for name, value in wanted.items():
        if value is not None:
            kinds = types.get(name) or [gguf.GGUFValueType.get_type(value)]
            writer.add_key_value(name, value, kinds[0], kinds[1] if len(kinds) > 1 else None)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
