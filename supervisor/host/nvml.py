"""NVIDIA devices as NVML tells of them."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psutil
import pynvml

from supervisor.host.facts import Gpu
from supervisor.host.gpu import Found

REMEDIES = {
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "the driver was updated while loaded; restart the machine",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "the driver is there and not loaded, which is right without a GPU",
    pynvml.NVML_ERROR_NO_PERMISSION: "this user may not open /dev/nvidia*; give it access to them",
    pynvml.NVML_ERROR_GPU_IS_LOST: "it fell off the bus; restart the machine",
    pynvml.NVML_ERROR_RESET_REQUIRED: "it has to be reset; restart the machine",
    pynvml.NVML_ERROR_INSUFFICIENT_POWER: "its power cable is not connected",
    pynvml.NVML_ERROR_IRQ_ISSUE: "the kernel gives it no interrupts; see dmesg",
}


@dataclass(frozen=True)
class Nvml:
    """One conversation with the library, which tests replay; its module has no types."""

    library: Any
    driver: str

    def devices(self) -> Iterator[Gpu | str]:
        """Each device, or why it cannot be used."""
        for index in range(self.library.nvmlDeviceGetCount()):
            try:
                yield from self.device(self.library.nvmlDeviceGetHandleByIndex(index))
            except pynvml.NVMLError as exc:
                yield f"GPU {index}: {explain(exc)}"

    def device(self, handle: object) -> Iterator[Gpu]:
        if not self.is_cut(handle):
            yield self.describe(handle)
            return
        for index in range(self.library.nvmlDeviceGetMaxMigDeviceCount(handle)):
            with suppress(pynvml.NVMLError_NotFound):  # a place for a slice that nobody made
                one = self.library.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
                yield self.describe(one).model_copy(update={"slice": True, "compute": self.compute(handle)})

    def is_cut(self, handle: object) -> bool:
        try:
            current, _ = self.library.nvmlDeviceGetMigMode(handle)
        except (pynvml.NVMLError_NotSupported, pynvml.NVMLError_FunctionNotFound):
            return False
        return bool(current == pynvml.NVML_DEVICE_MIG_ENABLE)

    def describe(self, handle: object) -> Gpu:
        total, free, shared = self.memory(handle)
        return Gpu(
            name=text(self.library.nvmlDeviceGetName(handle)),
            memory_total=total,
            memory_free=free,
            driver=self.driver,
            compute=self.compute(handle),
            shared=shared,
        )

    def memory(self, handle: object) -> tuple[int, int, bool]:
        """Bytes in all, bytes free, and whether they are the machine's: on the CPU's chip there is no memory apart."""
        try:
            own = self.library.nvmlDeviceGetMemoryInfo(handle)
        except pynvml.NVMLError_NotSupported:
            machine = psutil.virtual_memory()
            return machine.total, machine.available, True
        return int(own.total), int(own.free), False

    def compute(self, handle: object) -> str | None:
        try:
            major, minor = self.library.nvmlDeviceGetCudaComputeCapability(handle)
        except (pynvml.NVMLError_NotSupported, pynvml.NVMLError_InvalidArgument):
            return None
        return f"{major}.{minor}"


def devices() -> Found:
    return devices_of(pynvml)


def devices_of(library: Any) -> Found:  # noqa: ANN401 - see Nvml
    try:
        library.nvmlInit()
    except pynvml.NVMLError_LibraryNotFound:
        return Found(())
    except pynvml.NVMLError as exc:
        return Found((), explain(exc))
    try:
        nvml = Nvml(library, text(library.nvmlSystemGetDriverVersion()))
        found = list(nvml.devices())
    except pynvml.NVMLError as exc:
        return Found((), explain(exc))
    finally:
        with suppress(pynvml.NVMLError):  # nothing depends on it
            library.nvmlShutdown()
    problems = [one for one in found if isinstance(one, str)]
    return Found(tuple(one for one in found if isinstance(one, Gpu)), "; ".join(problems) or None)


def explain(error: pynvml.NVMLError) -> str:
    """NVML's words and what to do, in one line."""
    said = f"NVIDIA's driver says: {str(error).rstrip('.')}"
    return f"{said}; {REMEDIES[error.value]}" if error.value in REMEDIES else said


def text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
