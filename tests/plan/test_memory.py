import pytest

from supervisor.host.facts import Gpu
from supervisor.plan.memory import RUNTIME, given_back, idle, kv_bytes, lesson, ram, vram
from tests.plan.machines import GIB, GPU, MIB, big, machine, model


def card(free: int, **other: object) -> Gpu:
    return GPU.model_copy(update={"memory_total": 24 * GIB, "memory_free": free, **other})


def test_openclaw_has_its_share_of_the_memory() -> None:
    assert ram(machine(memory_available=8 * GIB)) == 8 * GIB - 2 * 10**9
    assert ram(machine(memory_available=GIB)) == 0


def test_gpus_add_up_and_each_loses_a_margin() -> None:
    one, two = machine(gpus=(card(20 * GIB),)), machine(gpus=(card(20 * GIB), card(20 * GIB)))

    assert vram(one) == 19 * GIB - RUNTIME
    assert vram(two) == 2 * vram(one)
    assert vram(machine()) == 0


def test_of_slices_the_largest_alone_counts() -> None:
    cut = machine(gpus=(card(10 * GIB, slice=True), card(20 * GIB, slice=True)))

    assert vram(cut) == vram(machine(gpus=(card(20 * GIB),)))


def test_a_gpu_without_own_memory_adds_none() -> None:
    assert vram(machine(gpus=(card(20 * GIB, shared=True),))) == 0


def test_a_coarse_cache_takes_half_and_its_scales() -> None:
    assert kv_bytes(model(kv_per_token=64), 10, "f16") == 640
    assert kv_bytes(model(kv_per_token=64), 10, "q8_0") == 340


@pytest.mark.parametrize(
    ("parameters", "low", "high"),
    [(8_190_000_000, 17, 20), (2_400_000_000, 5, 6.5), (1_900_000, 0.5, 0.6), (600_000_000, 2.5, 3.5)],
)
def test_a_lesson_takes_the_dense_weights(parameters: int, low: float, high: float) -> None:
    assert low * GIB < lesson(model(parameters=parameters)) < high * GIB


def test_where_nobody_counted_the_parameters_the_file_tells() -> None:
    assert lesson(big()) == pytest.approx(lesson(big(parameters=8_850_000_000)), rel=0.02)


def test_an_idle_machine_has_all_but_the_systems_share() -> None:
    facts = idle(machine(memory_total=16 * GIB, memory_available=2 * GIB, gpus=(card(GIB),)))

    assert facts.memory_available == 16 * GIB - 768 * MIB
    assert facts.gpus[0].memory_free == 24 * GIB


def test_what_an_engine_holds_can_be_had_again() -> None:
    facts = machine(memory_total=16 * GIB, memory_available=8 * GIB, gpus=(card(20 * GIB), card(10 * GIB)))

    freed = given_back(facts, ram=5 * GIB, vram=10 * GIB)

    assert freed.memory_available == 13 * GIB
    assert [gpu.memory_free for gpu in freed.gpus] == [24 * GIB, 16 * GIB]
    assert given_back(facts, ram=50 * GIB, vram=0).memory_available == 16 * GIB
