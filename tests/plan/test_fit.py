import pytest

from supervisor.errors import MachineError
from supervisor.host.facts import Gpu
from supervisor.plan.fit import fit, flash_attention_works
from tests.plan.machines import GIB, GPU, MIB, big, machine, model, settings


@pytest.mark.parametrize(
    ("wanted", "max_context", "available", "context", "why"),
    [
        (131072, 2048, 8 * GIB, 2048, "the longest the model knows"),
        (1024, 2048, 8 * GIB, 1024, "as set"),
        (2048, 2048, 8 * GIB, 2048, "as set"),
        (131072, 131072, 3 * GIB, 41472, "what the free memory holds (131072 were wanted)"),
    ],
)
def test_the_context_is_what_model_user_and_memory_allow(
    wanted: int, max_context: int, available: int, context: int, why: str
) -> None:
    one = model(max_context=max_context, weights=2 * MIB)

    found = fit(machine(memory_available=available), settings(context_window=wanted), one, "llama")

    assert (found.context, found.why) == (context, why)


def test_a_cpu_gets_no_longer_context_than_it_can_read_unless_it_is_wanted() -> None:
    facts, one = machine(memory_available=64 * GIB), model(max_context=131072)

    assert fit(facts, settings(), one, "ollama").context == 32768
    assert fit(facts, settings(context_window=100_000), one, "ollama").context == 100_000


def test_more_requests_at_once_share_the_memory() -> None:
    facts, one = machine(memory_available=3 * GIB), model(max_context=10**6)

    alone = fit(facts, settings(parallel=1, context_window=10**6), one, "llama")
    shared = fit(facts, settings(parallel=4, context_window=10**6), one, "llama")

    assert alone.context == pytest.approx(4 * shared.context, rel=0.05)


def test_a_cpu_serves_one_after_another_unless_more_is_wanted() -> None:
    facts = machine(memory_available=64 * GIB)

    assert fit(facts, settings(), big(), "ollama").parallel == 1
    assert fit(facts, settings(parallel=3), big(), "ollama").parallel == 3


def test_a_gpu_serves_two_where_both_contexts_fit() -> None:
    def parallel(memory: int) -> int:
        gpu = GPU.model_copy(update={"memory_free": memory})
        return fit(machine(gpus=(gpu,)), settings(), big(), "ollama").parallel

    assert parallel(24 * GIB) == 2
    assert parallel(12 * GIB) == 1


def test_too_little_memory_is_refused_with_what_would_do() -> None:
    with pytest.raises(MachineError) as error:
        fit(machine(memory_available=7 * GIB), settings(), big(), "llama")

    assert str(error.value) == (
        "7.0 GiB of memory are free; m needs 7.8 GiB and OpenClaw 1.2. "
        "Choose a smaller CLAWLAMA_MODEL or give the container more memory"
    )
    assert fit(machine(memory_available=int(9.7 * GIB)), settings(), big(), "llama").context >= 4096


def test_in_two_gigabytes_openclaw_gets_less_room_and_a_small_model_serves() -> None:
    facts, small = machine(memory_total=2 * GIB, memory_available=int(1.9 * GIB)), model(weights=4 * MIB)

    assert fit(facts, settings(), small, "llama").context == 2048


def test_what_the_gpu_has_is_said_too() -> None:
    gpu = GPU.model_copy(update={"memory_free": 2 * GIB})

    with pytest.raises(MachineError, match=r"4\.0 GiB of memory are free and 1\.4 GiB on the GPU; m needs"):
        fit(machine(memory_available=4 * GIB, gpus=(gpu,)), settings(), big(), "ollama")


def test_half_of_the_memory_left_is_for_others_but_a_short_context_may_have_it_all() -> None:
    one = model(weights=GIB, kv_per_token=256 * 1024, max_context=131072)
    left = GIB + 100 * MIB

    facts = machine(memory_available=GIB + left + 512 * MIB + 2 * 10**9)

    assert fit(facts, settings(parallel=1), one, "llama").context == 4096


def test_a_model_that_fits_is_whole_on_the_gpu() -> None:
    found = fit(machine(gpus=(GPU,)), settings(), big(), "ollama")

    assert (found.on_gpu, found.ram, found.context) == (1, 0, 40960)


def test_a_model_that_is_too_large_is_split() -> None:
    gpu = GPU.model_copy(update={"memory_free": 4 * GIB})

    found = fit(machine(gpus=(gpu,), memory_available=32 * GIB), settings(), big(), "ollama")

    assert 0.2 < found.on_gpu < 0.5
    assert found.ram == pytest.approx((1 - found.on_gpu) * (5.5 * GIB + found.context * 144 * 1024), rel=0.01)


def test_a_gpu_in_the_machines_memory_does_not_add_to_it() -> None:
    shared = Gpu(name="GB10", memory_total=16 * GIB, memory_free=8 * GIB, driver="1", compute="12.1", shared=True)

    found = fit(machine(gpus=(shared,), memory_available=64 * GIB), settings(), big(), "ollama")

    assert found.on_gpu == 1
    assert found.ram > 5 * GIB


@pytest.mark.parametrize(
    ("compute", "works"), [("8.9", True), ("7.0", True), ("7.2", False), ("6.1", False), ("12.1", True), (None, True)]
)
def test_flash_attention_needs_a_gpu_that_is_new_enough(compute: str | None, works: bool) -> None:
    assert flash_attention_works(machine(gpus=(GPU.model_copy(update={"compute": compute}),))) is works
    assert flash_attention_works(machine())


def test_an_old_gpu_keeps_the_fine_cache() -> None:
    old = GPU.model_copy(update={"memory_free": 7 * GIB, "compute": "6.1"})
    new = GPU.model_copy(update={"memory_free": 7 * GIB})

    coarse = fit(machine(gpus=(new,)), settings(), big(), "ollama")
    fine = fit(machine(gpus=(old,)), settings(), big(), "ollama")

    assert (coarse.kv, fine.kv) == ("q8_0", "f16")
    assert coarse.context > 1.8 * fine.context
