"""How far two adapters are apart, for people who made one twice."""

from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor


def distances(one: Path, other: Path) -> dict[str, float]:
    """Largest absolute difference of a number, for each safetensors file in both folders.

    Infinite where the tensors have other names or shapes.
    """
    names = sorted(path.name for path in one.glob("*.safetensors") if (other / path.name).exists())
    return {name: distance(load_file(one / name), load_file(other / name)) for name in names}


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    if {name: tensor.shape for name, tensor in one.items()} != {name: tensor.shape for name, tensor in other.items()}:
        return float("inf")
    return max((tensor.float() - other[name].float()).abs().max().item() for name, tensor in one.items())
