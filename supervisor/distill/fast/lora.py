"""The trained part of the fast engine: LoRA's matrices by module, as PEFT names and stores them."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import Parameter

from supervisor.distill.fast.base import GATE_UP, QKV, Files, attention, mlp
from supervisor.distill.fast.decoder import LayerLora
from supervisor.distill.fast.linear import Lora, Part
from supervisor.distill.job import LoraShape
from supervisor.errors import DistillError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
LAYER = "model.layers."
UNUSUAL = (
    "use_dora",
    "use_rslora",
    "rank_pattern",
    "alpha_pattern",
    "modules_to_save",
    "lora_bias",
    "layers_to_transform",
)


@dataclass(frozen=True)
class Adapter:
    shape: LoraShape
    parts: Mapping[str, Part]  # by module: model.layers.0.self_attn.q_proj

    @property
    def parameters(self) -> dict[str, Parameter]:
        """By the names that they have in a PEFT model."""
        return {
            f"{PREFIX}{module}.lora_{side}.default.weight": matrix
            for module, part in self.parts.items()
            for side, matrix in (("A", part.a), ("B", part.b))
        }

    def layers(self, files: Files, dtype: torch.dtype) -> list[LayerLora]:
        """As it is now, in the dtype that is computed in."""
        return [
            LayerLora(
                qkv=self.fused((attention(index) + name for name in QKV), files, dtype),
                o=self.fused([f"{attention(index)}o_proj"], files, dtype),
                gate_up=self.fused((mlp(index) + name for name in GATE_UP), files, dtype),
                down=self.fused([f"{mlp(index)}down_proj"], files, dtype),
            )
            for index in range(files.shape.layers)
        ]

    def fused(self, modules: Iterable[str], files: Files, dtype: torch.dtype) -> Lora | None:
        found: list[tuple[slice, Part]] = []
        end = 0
        for module in modules:
            begin, end = end, end + files.sizes[f"{module}.weight"][0]
            if module in self.parts:
                found.append((slice(begin, end), self.parts[module]))
        return Lora(found, dtype) if found else None

    def save(self, folder: Path) -> None:
        """Files that PEFT loads."""
        tensors = {
            name.replace(".default.", "."): matrix.detach().cpu().contiguous()
            for name, matrix in self.parameters.items()
        }
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
        config = {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "r": self.shape.r,
            "lora_alpha": self.shape.alpha,
            "target_modules": sorted(self.shape.target_modules),
            "lora_dropout": 0.0,
            "bias": "none",
            "fan_in_fan_out": False,
            "inference_mode": True,
        }
        (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")


def new_adapter(shape: LoraShape, files: Files, *, seed: int, device: torch.device) -> Adapter:
    """It starts as the base itself: A as PEFT draws it (uniform, Kaiming's bound for a = sqrt 5), B zero."""
    generator = torch.Generator().manual_seed(seed)
    parts: dict[str, Part] = {}
    for module in modules_of(shape, files):
        outputs, inputs = files.sizes[f"{module}.weight"]
        a = torch.empty(shape.r, inputs).uniform_(-1, 1, generator=generator) / math.sqrt(inputs)
        parts[module] = Part(
            Parameter(a.to(device)), Parameter(torch.zeros(outputs, shape.r, device=device)), shape.alpha / shape.r
        )
    return Adapter(shape, parts)


def modules_of(shape: LoraShape, files: Files) -> list[str]:
    ends = tuple(f".{name}.weight" for name in shape.target_modules)
    found = [name.removesuffix(".weight") for name in files.sizes if name.startswith(LAYER) and name.endswith(ends)]
    if not found:
        raise DistillError(f"the base model has none of the modules {', '.join(shape.target_modules)} to adapt")
    return sorted(found)


def usual(folder: Path) -> bool:
    """Whether an adapter is plain LoRA on linear layers; others are for PEFT."""
    config = read_config(folder)
    return (
        config.get("peft_type") == "LORA" and config.get("bias") in (None, "none") and not any(map(config.get, UNUSUAL))
    )


def read_adapter(folder: Path, files: Files, *, device: torch.device) -> Adapter:
    """Raises DistillError when it is not there, or belongs to another base."""
    config = read_config(folder)
    shape = LoraShape(r=config["r"], alpha=config["lora_alpha"], target_modules=tuple(sorted(config["target_modules"])))
    stored = load_file(folder / WEIGHTS)
    parts: dict[str, Part] = {}
    for module in modules_of(shape, files):
        a, b = (stored.get(f"{PREFIX}{module}.lora_{side}.weight") for side in "AB")
        if a is None or b is None or (len(b), a.shape[1]) != files.sizes[f"{module}.weight"]:
            raise DistillError(f"{folder} does not fit {module} of this base model; it belongs to another")
        parts[module] = Part(weight_of(a, device), weight_of(b, device), shape.alpha / shape.r)
    return Adapter(shape, parts)


def weight_of(stored: Tensor, device: torch.device) -> Parameter:
    return Parameter(stored.to(device, torch.float32))


def read_config(folder: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG).read_text())
    except FileNotFoundError as exc:
        raise DistillError(f"{folder} holds no adapter; the version that wrote a reply of this lesson is gone") from exc
    return config
