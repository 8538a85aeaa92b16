"""Which NVIDIA devices there are. NVML's module is only loaded where the driver's library can be: it takes 2 MB."""

from ctypes import CDLL
from dataclasses import dataclass
from typing import Any

from supervisor.host.facts import Gpu

LIBRARY = "libnvidia-ml.so.1"


@dataclass(frozen=True)
class Found:
    """No driver is no device and no problem; a broken one is a fact with its reason."""

    gpus: tuple[Gpu, ...]
    problem: str | None = None


def find_gpus(library: Any = None) -> Found:  # noqa: ANN401 - NVML's module has no types
    """``library``: what answers in NVML's place, for tests."""
    if library is None and not driver_there():
        return Found(())
    from supervisor.host import nvml  # noqa: PLC0415 - see above

    return nvml.devices() if library is None else nvml.devices_of(library)


def driver_there() -> bool:
    try:
        CDLL(LIBRARY)
    except OSError:
        return False
    return True
