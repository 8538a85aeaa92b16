"""What this machine is: frozen values, no opinion. Written to JSON by ``clawlama doctor --json`` and read back."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict


class Fact(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Gpu(Fact):
    """One NVIDIA device, or one slice of a device that is cut into slices (MIG); memory in bytes."""

    name: str
    memory_total: int
    memory_free: int
    driver: str
    compute: str | None = None  # compute capability, e.g. "8.9"
    shared: bool = False  # it has no memory of its own: the numbers are the machine's
    slice: bool = False  # MIG; a process can use one of them only


class Disk(Fact):
    """Space in bytes on the file system that holds ``path``."""

    path: Path
    total: int
    free: int


class HostFacts(Fact):
    """Everything the plan looks at. Cores and memory are what this container may use, not what the host has."""

    architecture: str
    cpu: str = ""  # as people call it; a board's name where it has one
    physical_cores: int  # fast ones, where there are fast and slow ones
    usable_cpus: float
    own_threads: int | None = None  # what llama.cpp takes when nobody says: it sees the whole machine and no limit
    memory_total: int  # without swap
    memory_available: int
    simd: tuple[str, ...]
    gpus: tuple[Gpu, ...]
    gpu_problem: str | None = None  # why a device that may be there cannot be used
    disk: Disk
    shm: Disk | None = None
    container: bool
