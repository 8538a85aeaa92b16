"""AdamW over an adapter's matrices; its state goes with the adapter, so that the next lesson goes on from there."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import Parameter
from torch.optim import AdamW

FILE = "optimizer.safetensors"  # the moments by parameter name, and the step count


def optimizer_for(named: Mapping[str, Parameter], parent: Path | None, *, learning_rate: float) -> tuple[AdamW, int]:
    """With the number of steps it has made; a parent's moments are taken over."""
    optimizer = AdamW(named.values(), lr=learning_rate, weight_decay=0.0)
    if parent is None or not (parent / FILE).exists():
        return optimizer, 0
    with safe_open(parent / FILE, framework="pt") as file:
        steps = int(json.loads(file.metadata()["clawlama"])["step"])
        for name, parameter in named.items():
            optimizer.state[parameter] = {
                "step": torch.tensor(float(steps)),
                "exp_avg": file.get_tensor(f"{name}.exp_avg").to(parameter.device),
                "exp_avg_sq": file.get_tensor(f"{name}.exp_avg_sq").to(parameter.device),
            }
    return optimizer, steps


def save_optimizer(optimizer: AdamW, named: Mapping[str, Parameter], steps: int, out: Path) -> None:
    moments: dict[str, Tensor] = {}
    for name, parameter in named.items():
        state: dict[str, Any] = optimizer.state[parameter]
        moments[f"{name}.exp_avg"] = state["exp_avg"].contiguous()
        moments[f"{name}.exp_avg_sq"] = state["exp_avg_sq"].contiguous()
    save_file(moments, out / FILE, metadata={"clawlama": json.dumps({"optimizer": "AdamW", "step": steps})})
