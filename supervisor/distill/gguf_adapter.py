"""A PEFT LoRA folder as a GGUF LoRA, checked against the base it will be served on.

llama.cpp adds ``alpha / rank * B @ A`` with one alpha per file and believes the file in everything: a wrong
architecture, shape or row order is served without a word, or aborts the process. So all of it is checked here.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from supervisor.distill.gguf_file import Planned, write_gguf
from supervisor.distill.gguf_model import ARCHITECTURES, interleave, rotated_heads
from supervisor.distill.gguf_read import GgufModel
from supervisor.distill.safetensors_file import StoredTensor, stored_tensors
from supervisor.errors import GgufError

NAMED = ARCHITECTURES | {  # those that are read from Hugging Face folders only
    "gemma": gguf.MODEL_ARCH.GEMMA,
    "gemma2": gguf.MODEL_ARCH.GEMMA2,
    "granite": gguf.MODEL_ARCH.GRANITE,
    "olmo2": gguf.MODEL_ARCH.OLMO2,
    "smollm3": gguf.MODEL_ARCH.SMOLLM3,
}
_LORA = re.compile(r"(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<side>[AB])(?:\.default)?\.weight")


class LoraConfig(BaseModel, frozen=True, extra="ignore"):
    """The part of ``adapter_config.json`` that decides what the matrices mean."""

    peft_type: str
    r: int
    lora_alpha: float
    use_rslora: bool = False
    use_dora: bool = False
    bias: str = "none"
    lora_bias: bool = False
    fan_in_fan_out: bool = False
    modules_to_save: list[str] | None = None
    rank_pattern: dict[str, int] = {}
    alpha_pattern: dict[str, float] = {}

    def scale(self, module: str) -> float:
        """What PEFT multiplies ``B @ A`` of this module by."""
        alpha = _matching(self.alpha_pattern, module, self.lora_alpha)
        rank = _matching(self.rank_pattern, module, self.r)
        return alpha / math.sqrt(rank) if self.use_rslora else alpha / rank


class Base:
    """What the served GGUF says about itself."""

    def __init__(self, path: Path) -> None:
        model = GgufModel(path)
        self.path = path
        self.architecture = model.architecture
        if self.architecture not in NAMED:
            raise GgufError(
                f"{path} has architecture {self.architecture!r}; adapters are known for {', '.join(sorted(NAMED))}. "
                "It serves, but to teach it choose another model"
            )
        self.blocks = model.number("block_count")
        self.heads = model.number("attention.head_count")
        self.kv_heads = model.number("attention.head_count_kv")
        self.shapes = {name: tensor.shape[::-1] for name, tensor in model.tensors.items()}  # (inputs, outputs)


def check_served(base: Path) -> None:
    """GgufError, before anything is trained, when no adapter could be served on this model."""
    Base(base)


def export_adapter(folder: Path, out: Path, *, base: Path) -> None:
    """Write the PEFT adapter of ``folder`` to ``out`` (f16) for the model file ``base``. Raises GgufError."""
    config = _read_config(folder)
    served = Base(base)
    pairs = _pairs(folder)
    names = gguf.get_tensor_name_map(NAMED[served.architecture], served.blocks)
    alpha = config.lora_alpha * (math.sqrt(config.r) if config.use_rslora else 1.0)
    tensors: list[Planned] = []
    for module, (a, b) in pairs.items():
        name = names.get_name(module)
        if name is None:
            raise GgufError(
                f"{folder}: {module} does not exist in {served.architecture}, the architecture of {base.name}"
            )
        _check_shapes(folder, served, f"{name}.weight", a, b)
        # llama.cpp will use alpha / rank; whatever this module needs beyond that goes into B.
        extra = config.scale(module) * a.shape[0] / alpha
        tensors += _planned(served, f"{name}.weight", a, b, extra)

    def describe(writer: gguf.GGUFWriter) -> None:
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha)

    write_gguf(out, served.architecture, describe, tensors)


def _matching(pattern: Mapping[str, float], module: str, default: float) -> float:
    """PEFT's rule: the first key that is the end of the module's path, as a regular expression."""
    for key, value in pattern.items():
        if re.match(rf"(.*\.)?({key})$", module):
            return value
    return default


def _read_config(folder: Path) -> LoraConfig:
    path = folder / "adapter_config.json"
    if not path.is_file():
        raise GgufError(f"{path} is missing; {folder} is not a PEFT adapter folder")
    try:
        config = LoraConfig.model_validate_json(path.read_bytes())
    except ValidationError as exc:
        raise GgufError(f"{path} is not a LoRA configuration: {exc}") from exc
    refusals = {
        f"type {config.peft_type}": config.peft_type != "LORA",
        "DoRA": config.use_dora,
        f"bias {config.bias!r}": config.bias != "none" or config.lora_bias,
        "modules_to_save": bool(config.modules_to_save),
        "fan_in_fan_out": config.fan_in_fan_out,
        "lora_alpha 0": config.lora_alpha == 0,
    }
    if refused := [what for what, present in refusals.items() if present]:
        raise GgufError(f"{path} uses {', '.join(refused)}, which a GGUF adapter cannot hold; train plain LoRA instead")
    return config


def _pairs(folder: Path) -> dict[str, tuple[StoredTensor, StoredTensor]]:
    """(A, B) of every adapted module, by the module's path in the base model."""
    sides: dict[str, dict[str, StoredTensor]] = {}
    for stored in stored_tensors(folder, "adapter_model.safetensors").values():
        if stored.name.endswith("base_layer.weight"):  # PEFT repeats the base of an embedding; it is not adapter
            continue
        found = _LORA.fullmatch(stored.name)
        if found is None:
            raise GgufError(f"{folder}: {stored.name} cannot be served; adapt linear layers only")
        sides.setdefault(found["module"], {})[found["side"]] = stored
    if not sides:
        raise GgufError(f"{folder} adapts nothing; it has no LoRA matrices")
    for module, pair in sides.items():
        if set(pair) != {"A", "B"}:
            raise GgufError(f"{folder}: {module} has only one of its two LoRA matrices")
    return {module: (pair["A"], pair["B"]) for module, pair in sides.items()}


def _check_shapes(folder: Path, served: Base, name: str, a: StoredTensor, b: StoredTensor) -> None:
    if name not in served.shapes:
        # On tied embeddings there is no output.weight, and llama.cpp would abort.
        raise GgufError(f"{folder} adapts {name}, which {served.path.name} does not have; leave that module out")
    if name == "token_embd.weight":
        raise GgufError(f"{folder} adapts the token embedding, which cannot be served; leave that module out")
    inputs, outputs = served.shapes[name]
    if a.shape[0] != b.shape[1] or (a.shape[1], b.shape[0]) != (inputs, outputs):
        raise GgufError(
            f"{folder}: {name} is {a.shape[1]} to {b.shape[0]} in the adapter, {inputs} to {outputs} in"
            f" {served.path.name}; the adapter belongs to another base"
        )


def _planned(served: Base, name: str, a: StoredTensor, b: StoredTensor, extra: float) -> list[Planned]:
    heads = rotated_heads(served.architecture, name, served.heads, served.kv_heads)

    def load_b() -> NDArray[np.float32]:
        values = b.load() * np.float32(extra)
        return values if heads is None else interleave(values, heads)

    return [
        Planned(f"{name}.lora_a", a.shape, "f16", a.load),
        Planned(f"{name}.lora_b", b.shape, "f16", load_b),
    ]
