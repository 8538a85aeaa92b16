import pytest

from supervisor.errors import MachineError
from supervisor.plan.decide import PUBLISHED_RECIPE, TINY_RECIPE, decide, fit_context
from supervisor.plan.models import BaseModelFacts
from tests.plan.machines import GIB, GPU, MIB, big, machine, model, settings


def test_the_same_input_gives_the_same_plan() -> None:
    assert decide(machine(), settings(), model()) == decide(machine(), settings(), model())


def test_every_decision_has_its_reason() -> None:
    reasons = decide(machine(), settings(), model()).reasons

    assert reasons == (
        "engine llama: the embedded llama.cpp serves m (4 MiB)",
        "threads 4: physical cores within this container's limit",
        "context 2048 tokens: the longest the model knows",
        "lean prompt on: CLAWLAMA_LEAN=auto",
        "lessons: engine keeps serving meanwhile",
        "recipe: for very small models, measured",
    )


def test_threads_are_the_users_where_they_are_set() -> None:
    plan = decide(machine(), settings(threads=3), model())

    assert plan.threads == 3
    assert "threads 3: as set" in plan.reasons


def test_an_x86_without_avx2_is_refused_with_the_remedy() -> None:
    with pytest.raises(MachineError, match=r"no AVX2.*use a machine made after about 2013"):
        decide(machine(simd=("AVX",)), settings(), model())


def test_an_arm_needs_no_avx2() -> None:
    assert decide(machine(architecture="aarch64", simd=("NEON",)), settings(), model()).threads == 4


@pytest.mark.parametrize(
    ("wanted", "max_context", "available", "context", "why"),
    [
        (131072, 2048, 8 * GIB, 2048, "the longest the model knows"),
        (1024, 2048, 8 * GIB, 1024, "as set"),
        (2048, 2048, 8 * GIB, 2048, "as set"),
        (131072, 131072, GIB // 4, 16256, "what the free memory holds (131072 were wanted)"),
    ],
)
def test_the_context_is_what_model_user_and_memory_allow(
    wanted: int, max_context: int, available: int, context: int, why: str
) -> None:
    one = model(max_context=max_context, weights=2 * MIB)

    assert fit_context(machine(memory_available=available), settings(context_window=wanted), one) == (context, why)


def test_more_requests_at_once_share_the_memory() -> None:
    facts, one = machine(memory_available=GIB // 4), model(max_context=131072)

    alone, _ = fit_context(facts, settings(parallel=1), one)
    shared, _ = fit_context(facts, settings(parallel=4), one)

    assert alone == 4 * shared


def test_too_little_memory_is_refused_with_what_would_do() -> None:
    with pytest.raises(MachineError) as error:
        decide(machine(memory_available=6 * GIB), settings(), big())

    assert str(error.value) == (
        "6.0 GiB of memory are free; m needs 7.2 GiB. Choose a smaller CLAWLAMA_MODEL or give the container more memory"
    )
    assert decide(machine(memory_available=int(7.3 * GIB)), settings(), big()).context >= 4096


def test_weights_alone_may_be_too_much() -> None:
    with pytest.raises(MachineError, match=r"4\.0 GiB of memory are free"):
        decide(machine(memory_available=4 * GIB), settings(), big())


@pytest.mark.parametrize(
    ("lean", "gpus", "one", "expected"),
    [
        ("auto", (), model(), True),
        ("auto", (GPU,), model(), True),
        ("auto", (), big(), True),
        ("auto", (GPU,), big(), False),
        ("on", (GPU,), big(), True),
        ("off", (), model(), False),
    ],
)
def test_the_prompt_is_lean_for_small_models_and_slow_machines(
    lean: str, gpus: tuple[object, ...], one: BaseModelFacts, expected: bool
) -> None:
    plan = decide(machine(gpus=gpus, memory_available=64 * GIB), settings(lean=lean), one)

    assert plan.lean is expected
    assert f"lean prompt {'on' if expected else 'off'}: CLAWLAMA_LEAN={lean}" in plan.reasons


@pytest.mark.parametrize(("available", "rests"), [(64 * GIB, False), (20 * GIB, True)])
def test_the_engine_rests_for_lessons_only_when_memory_is_short(available: int, rests: bool) -> None:
    plan = decide(machine(memory_available=available), settings(context_window=8192), big())

    assert plan.rest_for_lessons is rests
    assert any("memory is short" in reason for reason in plan.reasons) is rests


def test_a_reply_takes_at_most_half_of_the_context() -> None:
    assert decide(machine(), settings(max_tokens=8192), model()).max_tokens == 1024
    assert decide(machine(), settings(max_tokens=100), model()).max_tokens == 100


def test_the_recipe_goes_by_the_models_size() -> None:
    assert decide(machine(), settings(), model()).recipe == TINY_RECIPE
    assert decide(machine(memory_available=64 * GIB), settings(), big()).recipe == PUBLISHED_RECIPE
