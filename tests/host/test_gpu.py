import ctypes.util

import psutil
import pytest

from supervisor.host.gpu import find_gpus
from tests.host.nvml import replay

MIB = 2**20


def test_no_driver_is_no_gpu_and_no_problem() -> None:
    library = replay("no_library")

    found = find_gpus(library)

    assert (found.gpus, found.problem) == ((), None)
    assert library.calls == ["init"]


def test_a_driver_without_a_device_is_no_problem_either() -> None:
    found = find_gpus(replay("driver_without_device"))

    assert (found.gpus, found.problem) == ((), None)


@pytest.mark.parametrize(
    ("record", "reason", "remedy"),
    [
        ("mismatch", "RM has detected an NVML/RM version mismatch", "restart the machine"),
        ("not_loaded", "Driver Not Loaded", "right without a GPU"),
        ("no_permission", "Insufficient Permissions", "give it access"),
        ("failing_version", "Unknown Error", ""),
    ],
)
def test_a_broken_driver_is_told_with_its_reason_in_one_line(record: str, reason: str, remedy: str) -> None:
    found = find_gpus(replay(record))

    assert found.gpus == ()
    assert found.problem is not None
    assert found.problem.startswith("NVIDIA's driver says: ")
    assert reason in found.problem
    assert remedy in found.problem
    assert "\n" not in found.problem


def test_a_device_is_described() -> None:
    (gpu,) = find_gpus(replay("rtx4090")).gpus

    assert (gpu.name, gpu.compute, gpu.driver) == ("NVIDIA GeForce RTX 4090", "8.9", "570.133.20")
    assert (gpu.memory_total, gpu.memory_free) == (24564 * MIB, 23900 * MIB)
    assert (gpu.shared, gpu.slice) == (False, False)


def test_every_device_is_found() -> None:
    library = replay("four_a100")

    assert len(find_gpus(library).gpus) == 4
    assert library.calls == ["init", "shutdown"]


def test_a_lost_device_does_not_hide_the_others() -> None:
    found = find_gpus(replay("two_3090_one_lost"))

    assert [gpu.name for gpu in found.gpus] == ["NVIDIA GeForce RTX 3090"]
    assert found.problem is not None
    assert found.problem.startswith("GPU 1: ")
    assert found.problem.endswith("it fell off the bus; restart the machine")


def test_of_a_device_that_is_cut_the_slices_count() -> None:
    gpus = find_gpus(replay("h100_cut")).gpus

    assert [(gpu.name[-11:], gpu.memory_total // MIB, gpu.slice, gpu.compute) for gpu in gpus] == [
        ("MIG 3g.40gb", 40448, True, "9.0"),
        ("MIG 1g.10gb", 9728, True, "9.0"),
    ]


def test_a_device_without_memory_of_its_own_has_the_machines() -> None:
    (gpu,) = find_gpus(replay("gb10")).gpus

    assert gpu.shared
    assert gpu.memory_total == psutil.virtual_memory().total


def test_a_driver_that_knows_no_slices_is_old_and_right() -> None:
    found = find_gpus(replay("old_driver"))

    assert [gpu.compute for gpu in found.gpus] == ["3.7"]
    assert found.problem is None


@pytest.mark.skipif(ctypes.util.find_library("nvidia-ml") is not None, reason="this machine has NVIDIA's driver")
def test_the_real_library_is_missing_here_and_that_is_fine() -> None:
    assert find_gpus().gpus == ()
    assert find_gpus().problem is None


@pytest.mark.gpu
@pytest.mark.skipif(ctypes.util.find_library("nvidia-ml") is None, reason="needs NVIDIA's driver")
def test_a_real_gpu_is_described() -> None:
    first = find_gpus().gpus[0]

    assert first.memory_total >= first.memory_free > 0
    assert first.name
    assert first.driver
