"""NVML as it would answer on machines of other people: a file of answers, given with the real library's errors.

The files are composed from NVML's documentation and reports, not captured. A number in the place of a value is the
error code that the call ends with.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml

RECORDS = Path(__file__).parent / "nvml"


@dataclass
class Replay:
    record: dict[str, Any]
    calls: list[str] = field(default_factory=list)

    def nvmlInit(self) -> None:  # noqa: N802 - these are NVML's names
        self.calls.append("init")
        given(self.record["init"])

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.calls.append("shutdown")

    def nvmlSystemGetDriverVersion(self) -> Any:  # noqa: N802
        return given(self.record["driver"])

    def nvmlDeviceGetCount(self) -> Any:  # noqa: N802
        return len(self.record["devices"])

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:  # noqa: N802
        return given(self.record["devices"][index])

    def nvmlDeviceGetName(self, handle: dict[str, Any]) -> Any:  # noqa: N802
        return given(handle["name"])

    def nvmlDeviceGetMemoryInfo(self, handle: dict[str, Any]) -> Any:  # noqa: N802
        total, free = given(handle["memory"])
        return SimpleNamespace(total=total, free=free, used=total - free)

    def nvmlDeviceGetCudaComputeCapability(self, handle: dict[str, Any]) -> Any:  # noqa: N802
        return given(handle["compute"])

    def nvmlDeviceGetMigMode(self, handle: dict[str, Any]) -> Any:  # noqa: N802
        return given(handle["mig"])

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: dict[str, Any]) -> Any:  # noqa: N802
        return len(handle["slices"])

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: dict[str, Any], index: int) -> Any:  # noqa: N802
        return given(handle["slices"][index])


def given(value: Any) -> Any:
    if isinstance(value, int):
        raise pynvml.NVMLError(value)
    return value


def replay(name: str) -> Replay:
    return Replay(json.loads((RECORDS / f"{name}.json").read_text()))
