import pytest

from supervisor.host.facts import Gpu, HostFacts
from supervisor.plan.catalog import CATALOG, LEARNERS, SERVERS
from supervisor.plan.choose import choose
from supervisor.plan.decide import decide
from supervisor.plan.recommend import TIERS, Tier, default_model, recommended, tier_of, usual_machine
from supervisor.plan.table import download, tier_rows
from tests.plan.machines import GIB, machine, settings


def card(memory: int, **other: object) -> Gpu:
    values = {"name": "GPU", "memory_total": memory, "memory_free": memory, "driver": "1", "compute": "8.6"}
    return Gpu.model_validate(values | other)


def having(ram: int, *gpus: Gpu) -> HostFacts:
    return machine(memory_total=ram * GIB, memory_available=ram * GIB // 2, gpus=gpus)


@pytest.mark.parametrize("tier", TIERS, ids=lambda tier: tier.label)
def test_what_a_usual_machine_is_recommended_can_be_planned_and_taught_there(tier: Tier) -> None:
    facts = usual_machine(tier)
    name = default_model(facts)

    plan = decide(facts, settings(engine="ollama", model=name), CATALOG[name].facts())

    assert plan.lesson_problem is None
    assert plan.on_gpu == (1 if tier.vram else 0)
    assert plan.context >= 12288


def test_more_memory_never_means_a_smaller_model() -> None:
    for kind in (False, True):
        sizes = [CATALOG[row.model].download for row in tier_rows() if bool(row.tier.vram) is kind]
        assert sizes == sorted(sizes)


@pytest.mark.parametrize(
    ("facts", "model"),
    [
        (having(2), "qwen3:0.6b"),
        (having(8), "qwen3:1.7b"),
        (having(500), "qwen3:8b"),
        (having(16, card(8 * GIB)), "qwen3:4b-instruct"),
        (having(32, card(8 * GIB)), "qwen3:8b"),
        (having(64, card(12 * GIB), card(12 * GIB)), "qwen3:14b"),
        (having(64, card(2 * GIB)), "qwen3:8b"),
        (having(128, card(0, shared=True)), "qwen3:32b"),
        (having(64, card(10 * GIB, slice=True), card(10 * GIB, slice=True)), "qwen3:8b"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_recommendation_goes_by_what_serves_and_can_be_taught(facts: HostFacts, model: str) -> None:
    assert default_model(facts) == model


def test_what_else_runs_just_now_changes_no_recommendation() -> None:
    idle, busy = (machine(memory_total=32 * GIB, memory_available=free * GIB) for free in (31, 3))

    assert recommended(idle) == recommended(busy)


def test_a_machine_too_small_for_lessons_is_told_so() -> None:
    advice = recommended(having(4))

    assert not advice.learns
    assert advice.model.name == "qwen3:0.6b"


def test_a_larger_model_that_cannot_learn_is_named_beside() -> None:
    server = recommended(having(32)).server

    assert server is not None
    assert server.name == "gpt-oss:20b"
    assert recommended(having(8)).server is None


@pytest.mark.parametrize(
    ("facts", "tier"),
    [
        (having(2), Tier(8)),
        (having(8), Tier(8)),
        (machine(memory_total=int(15.1 * GIB)), Tier(16)),
        (having(500), Tier(64)),
        (having(500, card(12 * GIB)), Tier(32, 12)),
        (having(64, card(12 * GIB), card(12 * GIB)), Tier(64, 24)),
        (having(64, card(5 * GIB)), Tier(16, 6)),
        (having(64, card(2 * GIB)), Tier(64)),
    ],
)
def test_a_machine_has_its_place_among_the_tiers(facts: HostFacts, tier: Tier) -> None:
    assert tier_of(facts) == tier


def test_the_recommendation_is_what_ollama_serves_when_nothing_was_chosen() -> None:
    facts = having(32)

    assert choose(settings(engine="ollama"), default_model(facts)).model == recommended(facts).model.name


def test_the_list_tells_what_it_promises() -> None:
    assert all(model.lessons is None for model in LEARNERS)
    assert all(model.lessons for model in SERVERS)
    assert [model.download for model in LEARNERS] == sorted(model.download for model in LEARNERS)
    assert CATALOG["qwen3:8b"].kv_per_token == 144 * 1024
    assert [download(CATALOG[name]) for name in ("qwen3:0.6b", "qwen3:8b")] == ["523 MB", "5.2 GB"]
