"""What this machine is: frozen values, no opinion."""

from pathlib import Path

from pydantic import BaseModel


class Gpu(BaseModel, frozen=True):
    """One NVIDIA device; memory in bytes."""

    name: str
    memory_total: int
    memory_free: int
    driver: str


class Disk(BaseModel, frozen=True):
    """Space in bytes on the file system that holds ``path``."""

    path: Path
    total: int
    free: int


class HostFacts(BaseModel, frozen=True):
    """Everything the plan looks at. Cores and memory are what this container may use, not what the host has."""

    architecture: str
    physical_cores: int
    usable_cpus: float
    memory_total: int
    memory_available: int
    simd: tuple[str, ...]
    gpus: tuple[Gpu, ...]
    disk: Disk
    container: bool
