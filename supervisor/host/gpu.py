"""NVIDIA devices through NVML. No driver, no device: an empty tuple, which is a fact and no problem."""

import pynvml

from supervisor.host.facts import Gpu


def gpus() -> tuple[Gpu, ...]:
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        driver = text(pynvml.nvmlSystemGetDriverVersion())
        return tuple(describe(index, driver) for index in range(pynvml.nvmlDeviceGetCount()))
    except pynvml.NVMLError:
        return ()
    finally:
        pynvml.nvmlShutdown()


def describe(index: int, driver: str) -> Gpu:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    name = text(pynvml.nvmlDeviceGetName(handle))
    return Gpu(name=name, memory_total=int(memory.total), memory_free=int(memory.free), driver=driver)


def text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
