from dataclasses import replace

import pytest

from supervisor.errors import MachineError
from supervisor.plan.decide import PUBLISHED_RECIPE, TINY_RECIPE, decide
from supervisor.plan.plan import Plan
from tests.plan.machines import GIB, GPU, big, machine, model, settings

SMALL = "long instructions confuse a small model"


def said(plan: Plan, topic: str) -> str:
    return next(line for line in plan.reasons if line.startswith(f"{topic}: ")).removeprefix(f"{topic}: ")


def test_the_same_input_gives_the_same_plan() -> None:
    assert decide(machine(), settings(), model()) == decide(machine(), settings(), model())


def test_every_decision_has_its_reason() -> None:
    assert decide(machine(), settings(), model()).reasons == (
        "engine: the embedded llama.cpp serves m (4 MiB)",
        "weights: in memory, no GPU takes part",
        "context: 2048 tokens: the longest the model knows",
        "KV cache: f16, 16 MiB when full",
        "threads: 4: physical cores within this container's limit",
        "parallel: 2 requests at the same time: as set",
        f"prompt: lean, about 50 tokens: {SMALL}; only 1998 are left for history and reply",
        "lessons: need 0.5 GiB on the CPU; the engine serves on meanwhile",
        "recipe: for very small models, measured",
    )


def test_threads_are_the_users_where_they_are_set() -> None:
    plan = decide(machine(), settings(threads=3), model())

    assert plan.threads == 3
    assert said(plan, "threads") == "3: as set"


def test_an_x86_without_avx2_cannot_run_the_embedded_engine() -> None:
    with pytest.raises(MachineError, match=r"no AVX2.*CLAWLAMA_ENGINE=ollama, or a machine made after about 2013"):
        decide(machine(simd=("AVX",)), settings(), model())


def test_ollama_needs_no_avx2_and_an_arm_has_none() -> None:
    assert decide(machine(simd=("AVX",)), settings(engine="ollama"), model()).engine == "ollama"
    assert decide(machine(architecture="aarch64", simd=("NEON",)), settings(), model()).threads == 4


@pytest.mark.parametrize(
    ("own", "chosen", "told"),
    [(4, {}, None), (64, {}, 4), (None, {}, 4), (4, {"threads": 3}, 3), (4, {"threads": 4}, 4)],
)
def test_ollama_is_told_the_threads_only_where_it_would_take_others(
    own: int | None, chosen: dict[str, int], told: int | None
) -> None:
    plan = decide(machine(own_threads=own), settings(engine="ollama", **chosen), big())

    assert plan.num_thread == told


def test_with_everything_on_the_gpu_threads_are_all_one() -> None:
    assert decide(machine(own_threads=64, gpus=(GPU,)), settings(engine="ollama"), big()).num_thread is None


def test_the_embedded_engine_leaves_gpus_alone() -> None:
    plan = decide(machine(gpus=(GPU,), memory_available=32 * GIB), settings(), big())

    assert (plan.engine, plan.on_gpu, plan.kv_cache) == ("llama", 0, "f16")


@pytest.mark.parametrize(("available", "rests"), [(64 * GIB, False), (24 * GIB, True)])
def test_the_engine_rests_for_lessons_only_when_memory_is_short(available: int, rests: bool) -> None:
    plan = decide(machine(memory_available=available), settings(context_window=8192), big())

    assert plan.rest_for_lessons is rests
    assert plan.lesson_problem is None
    assert ("the engine rests" in said(plan, "lessons")) is rests


@pytest.mark.parametrize(("available", "rests"), [(24 * GIB, False), (11 * GIB, True)])
def test_a_lesson_on_a_gguf_makes_do_with_packed_weights(available: int, rests: bool) -> None:
    on_what_serves = replace(big(), trains_on=big().gguf)

    plan = decide(machine(memory_available=available), settings(context_window=8192), on_what_serves)

    assert (plan.rest_for_lessons, plan.lesson_problem) == (rests, None)
    assert "weights unpacked as they are needed" in said(plan, "lessons")


def test_a_lesson_that_does_not_fit_at_all_is_told_beforehand() -> None:
    plan = decide(machine(memory_available=12 * GIB), settings(), big())

    assert plan.rest_for_lessons
    assert plan.lesson_problem is not None
    assert plan.lesson_problem.startswith("a lesson needs 19.1 GiB on the CPU, 10.1 can be had; free some, or choose")
    assert said(plan, "lessons") == f"may fail: {plan.lesson_problem}"


def test_a_model_that_cannot_be_taught_only_serves() -> None:
    plan = decide(machine(memory_available=64 * GIB), settings(engine="ollama"), big(lessons="a mixture of experts"))

    assert (plan.rest_for_lessons, plan.lesson_problem) == (False, "a mixture of experts")


def test_on_the_gpu_the_engine_leaves_the_memory_to_lessons() -> None:
    plan = decide(machine(gpus=(GPU,), memory_available=24 * GIB), settings(engine="ollama"), big())

    assert plan.on_gpu == 1
    assert not plan.rest_for_lessons


@pytest.mark.parametrize(("free", "rests"), [(23 * GIB, True), (80 * GIB, False)])
def test_lessons_on_the_gpu_go_by_its_memory(free: int, rests: bool) -> None:
    gpu = GPU.model_copy(update={"memory_total": free, "memory_free": free})

    plan = decide(machine(gpus=(gpu,)), settings(engine="ollama"), big(), lessons_on="gpu")

    assert plan.rest_for_lessons is rests
    assert plan.lesson_problem is None


def test_of_a_server_elsewhere_no_memory_is_counted() -> None:
    facts = machine(memory_available=3 * GIB, own_threads=64)

    plan = decide(facts, settings(engine="ollama"), big(), server_here=False)

    assert (plan.context, plan.num_thread, plan.rest_for_lessons) == (32768, None, False)
    assert said(plan, "weights") == "on the server's machine"
    assert said(plan, "parallel") == "2 requests at the same time: the usual number"
    assert said(plan, "threads").endswith("for lessons; the server takes what it likes")
    assert not plan.lean, "its machine may be fast"


def test_a_reply_takes_at_most_half_of_the_context() -> None:
    assert decide(machine(), settings(max_tokens=8192), model()).max_tokens == 1024
    assert decide(machine(), settings(max_tokens=100), model()).max_tokens == 100


def test_the_recipe_goes_by_the_models_size() -> None:
    assert decide(machine(), settings(), model()).recipe == TINY_RECIPE
    assert decide(machine(memory_available=64 * GIB), settings(), big()).recipe == PUBLISHED_RECIPE


def test_a_coarse_cache_needs_flash_attention_and_nothing_else_does() -> None:
    roomy = decide(machine(memory_available=64 * GIB), settings(engine="ollama"), big())
    tight = decide(machine(memory_available=9 * GIB), settings(engine="ollama"), big())

    assert (roomy.kv_cache, roomy.flash_attention) == ("f16", None)
    assert (tight.kv_cache, tight.flash_attention) == ("q8_0", True)
