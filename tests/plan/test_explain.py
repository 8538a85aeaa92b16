"""What the golden machines do not show."""

from supervisor.errors import MachineError
from supervisor.host.facts import Disk, HostFacts
from supervisor.plan.catalog import CATALOG
from supervisor.plan.decide import decide
from supervisor.plan.explain import explain
from tests.plan.machines import GIB, GPU, big, machine, settings


def told(facts: HostFacts, name: str = "qwen3:8b") -> dict[str, str]:
    """Topic to text of a plan for this model."""
    plan = decide(facts, settings(engine="ollama", model=name), CATALOG[name].facts())
    lines = explain(facts, plan).splitlines()
    return {line[:14].strip(): line[14:] for line in lines if not line.startswith(" ")}


def test_a_gpu_in_the_machines_memory_is_told_as_such() -> None:
    shared = GPU.model_copy(update={"name": "NVIDIA GB10", "shared": True, "compute": "12.1"})

    said = told(machine(gpus=(shared,), memory_available=100 * GIB))

    assert said["GPU"] == "NVIDIA GB10, with the machine's memory, compute capability 12.1, driver 1"
    assert said["weights"] == "on the GPU, which works in the machine's memory"


def test_several_gpus_share_a_model() -> None:
    small = GPU.model_copy(update={"memory_total": 8 * GIB, "memory_free": 8 * GIB})

    said = told(machine(gpus=(small, small), memory_available=40 * GIB), "qwen3:14b")

    assert said["weights"] == "all on the GPUs"


def test_what_does_not_fit_the_gpu_is_told_in_layers() -> None:
    small = GPU.model_copy(update={"memory_total": 6 * GIB, "memory_free": 6 * GIB})

    said = told(machine(gpus=(small,), memory_available=40 * GIB))

    assert said["weights"].startswith("about ")
    assert " of 36 layers on the GPU, the rest in memory" in said["weights"]


def test_a_disk_that_is_too_small_is_told_and_no_larger_model_is_offered() -> None:
    full = Disk(path=machine().disk.path, total=100 * GIB, free=4 * GIB)

    said = told(machine(memory_total=32 * GIB, memory_available=30 * GIB, disk=full))

    assert said["download"].endswith("4 GB are free at /data, too little")
    assert "or" not in said


def test_a_model_that_is_not_in_the_list_is_told_as_what_ollama_says() -> None:
    facts = machine(memory_available=30 * GIB)

    text = explain(facts, decide(facts, settings(engine="ollama", model="m"), big()))

    assert "note          m is not in our list; its numbers are what Ollama says of it" in text
    assert "download" not in text.partition("recommended")[0]


def test_where_there_is_no_plan_there_is_advice() -> None:
    facts = machine(memory_total=8 * GIB)

    text = explain(facts, MachineError("it: does not fit"))

    assert "no plan       it: does not fit\n" in text
    assert "to take it, set CLAWLAMA_MODEL=qwen3:1.7b" in " ".join(text.split())


def test_a_machine_without_a_name_is_told_by_its_architecture() -> None:
    assert told(machine(simd=(), own_threads=16))["machine"] == "x86_64, 4 cores of 16, no vector extensions"
