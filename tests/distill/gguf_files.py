"""GGUF files taken apart and put together differently."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind
from numpy.typing import NDArray

K_QUANTS = {  # where the scales are, about how many steps a standard deviation is, and the scales of those
    Kind.Q4_K: (0, 150, (1.0, 7.5)),
    Kind.Q5_K: (0, 300, (1.0, 15.5)),
    Kind.Q6_K: (208, 1400, (1.0,)),
}


def values(path: Path) -> dict[str, NDArray[np.float32]]:
    """Every tensor of a file as float32."""
    return {
        tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        for tensor in gguf.GGUFReader(path).tensors
    }


def changed(source: Path, target: Path, metadata: dict[str, Any]) -> None:
    """A copy with other metadata; None leaves a value out."""
    reader = gguf.GGUFReader(source)
    writer = begun(reader, target, metadata)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    finished(writer)


def begun(reader: gguf.GGUFReader, target: Path, metadata: dict[str, Any]) -> gguf.GGUFWriter:
    kept = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    types = {name: field.types for name, field in reader.fields.items()}
    wanted = {**kept, **metadata}
    writer = gguf.GGUFWriter(target, str(wanted.pop("general.architecture")))
    for name, value in wanted.items():
        if value is not None:
            kinds = types.get(name) or [gguf.GGUFValueType.get_type(value)]
            writer.add_key_value(name, value, kinds[0], kinds[1] if len(kinds) > 1 else None)
    return writer


def finished(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def restored(source: Path, target: Path, kind: Kind) -> None:
    """A copy whose matrices are of another type; K-quants get random blocks, since nothing here can write them."""
    reader = gguf.GGUFReader(source)
    writer = begun(reader, target, {})
    generator = np.random.default_rng(5)
    for tensor in reader.tensors:
        if len(tensor.shape) < 2:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
        elif kind in K_QUANTS:
            writer.add_tensor(tensor.name, k_quant(tensor, kind, generator), raw_dtype=kind)
        else:
            writer.add_tensor(tensor.name, gguf.quants.quantize(np.array(tensor.data), kind), raw_dtype=kind)
    finished(writer)


def k_quant(tensor: gguf.ReaderTensor, kind: Kind, generator: np.random.Generator) -> NDArray[np.uint8]:
    """Random values of about the same spread, 256 to a block; only its scales in half precision are chosen."""
    inputs, outputs = (int(side) for side in tensor.shape)
    width = gguf.GGML_QUANT_SIZES[kind][1]
    raw = generator.integers(0, 256, (outputs * inputs // 256, width), dtype=np.uint8)
    place, share, per_step = K_QUANTS[kind]
    scales = (float(tensor.data.std()) * np.array(per_step) / share).astype(np.float16).view(np.uint8)
    raw[:, place : place + len(scales)] = scales
    return raw.reshape(outputs, -1)


def scaled(source: Path, target: Path, factor: float) -> None:
    """An adapter that does the same, so many times as much."""
    reader = gguf.GGUFReader(source)
    writer = begun(reader, target, {})
    for tensor in reader.tensors:
        values = np.array(tensor.data)
        writer.add_tensor(tensor.name, values * np.float16(factor) if tensor.name.endswith("lora_b") else values)
    finished(writer)
