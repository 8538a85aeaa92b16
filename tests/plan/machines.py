"""Machines and models to plan for, made of numbers only."""

from pathlib import Path
from typing import Any

from supervisor.host.facts import Disk, Gpu, HostFacts
from supervisor.plan.models import BaseModelFacts
from supervisor.settings.settings import Settings

MIB, GIB = 2**20, 2**30
GPU = Gpu(name="some GPU", memory_total=24 * GIB, memory_free=23 * GIB, driver="1", compute="8.9")


def machine(**other: Any) -> HostFacts:
    """A usual laptop."""
    values: dict[str, Any] = {
        "architecture": "x86_64",
        "physical_cores": 4,
        "usable_cpus": 8.0,
        "memory_total": 16 * GIB,
        "memory_available": 8 * GIB,
        "simd": ("AVX", "AVX2"),
        "gpus": (),
        "disk": Disk(path=Path("/data"), total=100 * GIB, free=50 * GIB),
        "container": True,
    }
    return HostFacts.model_validate(values | other)


def model(weights: int = 4 * MIB, max_context: int = 2048, kv_per_token: int = 4096, **other: Any) -> BaseModelFacts:
    folder = Path("/models/m")
    return BaseModelFacts("m", folder, folder / "m.gguf", weights, max_context, kv_per_token, **other)


def big(**other: Any) -> BaseModelFacts:
    """About an 8B model at 4 bits: 144 KiB of cache a token."""
    return model(weights=5 * GIB, max_context=40960, kv_per_token=144 * 1024, **other)


def settings(**other: Any) -> Settings:
    return Settings.model_validate({"data": "/data"} | other)
