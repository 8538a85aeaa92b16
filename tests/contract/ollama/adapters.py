"""LoRA files for the tiny model, small and loud: one that changes what it says, and broken ones."""

from pathlib import Path

import gguf
import numpy as np

RANK = 4


def write_adapter(path: Path, base: Path, *, seed: int = 0, scale: float = 0.5, typed: bool = True) -> Path:
    """A random adapter on every attention query of ``base``; ``typed`` False leaves out that it is an adapter."""
    reader = gguf.GGUFReader(base)
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(path, architecture)
    if typed:
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(RANK))
    random = np.random.default_rng(seed)
    for tensor in reader.tensors:
        if tensor.name.endswith("attn_q.weight"):
            inputs, outputs = (int(side) for side in tensor.shape)
            a = random.normal(size=(RANK, inputs), scale=scale).astype(np.float32)
            b = random.normal(size=(outputs, RANK), scale=scale).astype(np.float32)
            writer.add_tensor(f"{tensor.name}.lora_a", a)
            writer.add_tensor(f"{tensor.name}.lora_b", b)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
