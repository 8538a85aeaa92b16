"""Which packs a machine wants."""

from pathlib import Path
from typing import Any

import pytest

from supervisor.host.facts import Gpu, HostFacts
from supervisor.host.gpu import find_gpus
from supervisor.packs.choose import packs_for
from supervisor.packs.pack import known_packs, shipped
from supervisor.packs.want import Wanted, driver_of, wanted
from supervisor.settings.settings import Settings
from supervisor.settings.sources import load_settings
from tests.host.nvml import replay
from tests.packs.depot import executable
from tests.plan.machines import GIB, machine

KNOWN = known_packs(shipped())


def gpu(driver: str = "580.95.05", compute: str | None = "8.9", **other: Any) -> Gpu:
    values: dict[str, Any] = {"name": "RTX", "memory_total": 24 * GIB, "memory_free": 23 * GIB}
    return Gpu.model_validate(values | {"driver": driver, "compute": compute} | other)


def names(*gpus: Gpu, mode: Any = "auto", python: str = "3.11", **other: Any) -> list[str]:
    return [pack.name for pack in wanted(KNOWN, machine(gpus=gpus, **other), mode, python=python).packs]


def note(*gpus: Gpu, python: str = "3.11", **other: Any) -> str:
    notes = wanted(KNOWN, machine(gpus=gpus, **other), "auto", python=python).notes
    return "\n".join(f"{what}: {why}" for what, why in notes.items())


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_a_machine_without_a_gpu_wants_nothing_and_says_nothing(mode: Any) -> None:
    assert wanted(KNOWN, machine(), mode, python="3.11") == Wanted()


@pytest.mark.parametrize("architecture", ["x86_64", "aarch64"])
def test_a_gpu_wants_both(architecture: str) -> None:
    assert names(gpu(), architecture=architecture) == ["ollama-cuda13", "torch-cuda"]


def test_switched_off_is_off() -> None:
    assert names(gpu(), mode="off") == []


def test_switched_on_needs_no_gpu_that_we_see() -> None:
    assert names(mode="on") == ["ollama-cuda13", "torch-cuda"]


@pytest.mark.parametrize(
    ("record", "packs"),
    [
        ("no_library", []),
        ("driver_without_device", []),
        ("not_loaded", []),
        ("no_permission", []),
        ("mismatch", []),
        ("rtx4090", ["ollama-cuda12"]),
        ("h100_cut", ["ollama-cuda12"]),
        ("old_driver", []),
    ],
)
def test_what_nvml_says_is_understood(record: str, packs: list[str]) -> None:
    assert names(*find_gpus(replay(record)).gpus) == packs


@pytest.mark.parametrize(
    ("driver", "compute", "packs"),
    [
        ("580.65.06", "7.5", ["ollama-cuda13", "torch-cuda"]),
        ("590.1", "12.0", ["ollama-cuda13", "torch-cuda"]),
        ("570.133.20", "8.9", ["ollama-cuda12"]),
        ("535.1", "8.9", ["ollama-cuda12"]),
        ("580.95.05", "6.1", ["ollama-cuda12"]),
        ("550.1", "6.1", []),
        ("470.1", "8.9", []),
        ("580.95.05", "3.7", []),
        ("580.95.05", None, ["ollama-cuda13", "torch-cuda"]),
    ],
)
def test_the_driver_and_the_device_say_which(driver: str, compute: str | None, packs: list[str]) -> None:
    assert names(gpu(driver, compute)) == packs


def test_ollama_needs_libraries_for_all_devices_and_a_lesson_for_one() -> None:
    assert names(gpu(), gpu(compute="6.1")) == ["ollama-cuda12", "torch-cuda"]


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (gpu("570.1"), "lessons on the CPU: torch-cuda needs NVIDIA's driver 580 or newer, and 570 is loaded; update"),
        (gpu(compute="6.1"), "lessons on the CPU: torch-cuda needs a GPU of compute capability 7.5, and RTX has 6.1"),
        (gpu("470.1"), "Ollama on the CPU: ollama-cuda12 needs NVIDIA's driver 531 or newer, and 470 is loaded"),
        (gpu("550.1", "6.1"), "Ollama on the CPU: RTX needs NVIDIA's driver 570 or newer, and 550 is loaded; update"),
    ],
)
def test_what_stays_on_the_cpu_is_said_with_the_remedy(one: Gpu, said: str) -> None:
    assert said in note(one)


def test_another_python_has_no_torch_pack() -> None:
    assert names(gpu(), python="3.13") == ["ollama-cuda13"]
    assert "made for Python 3.11, and this is 3.13; use the container image" in note(gpu(), python="3.13")


def test_another_processor_has_none() -> None:
    assert note(gpu(), architecture="riscv64").startswith("Ollama on the CPU: there is no pack for riscv64")


def chosen(data: Path, ollama: Path | None) -> set[str]:
    settings = Settings.model_validate({"data": data, "gpu_packs": "on"})
    wanted_here: set[str] = {pack.gives for pack in packs_for(settings, machine(), ollama=ollama).setup.wanted}
    return wanted_here - {"torch"}  # depends on the torch and the Python that run this test


def test_an_ollama_of_ours_without_cuda_libraries_wants_them(tmp_path: Path) -> None:
    assert chosen(tmp_path, executable(tmp_path / "bin" / "ollama")) == {"ollama"}


def test_an_ollama_that_somebody_installed_whole_wants_nothing(tmp_path: Path) -> None:
    ollama = executable(tmp_path / "ollama" / "bin" / "ollama")
    executable(tmp_path / "ollama" / "lib" / "ollama" / "cuda_v13" / "libggml-cuda.so")
    link = tmp_path / "ollama-on-the-path"
    link.symlink_to(ollama)

    assert chosen(tmp_path, link) == set()


def test_an_engine_that_is_not_ollama_wants_none_of_its_libraries(tmp_path: Path) -> None:
    assert chosen(tmp_path, None) == set()


def test_packs_go_to_the_data_folder_and_torch_comes_from_the_index_that_pip_uses(tmp_path: Path) -> None:
    settings = load_settings({"CLAWLAMA_DATA": str(tmp_path), "PIP_INDEX_URL": "https://mirror.example/simple"})

    setup = packs_for(settings, machine(), ollama=None).setup

    assert (setup.home, setup.index) == (tmp_path / "packs", "https://mirror.example/simple")


@pytest.mark.parametrize(("driver", "number"), [("580.95.05", 580), ("1", 1), ("", 0), ("unknown", 0)])
def test_the_first_number_of_a_driver_counts(driver: str, number: int) -> None:
    assert driver_of(gpu(driver)) == number


def test_facts_are_read_and_nothing_else() -> None:
    facts = HostFacts.model_validate_json(machine(gpus=(gpu(),)).model_dump_json())

    assert wanted(KNOWN, facts, "auto", python="3.11").packs
