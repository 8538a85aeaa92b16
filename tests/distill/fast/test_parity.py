"""The fast engine gives the plain recipe's losses and gradients, whatever it shares, drops or computes again."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from supervisor.distill.fast import tree
from supervisor.distill.fast.base import files_of
from supervisor.distill.gguf import export_model
from supervisor.distill.student import STUDENT
from tests.distill import random_models
from tests.distill.fast.pupils import WIDE, Pair, apart, outcome, pair, replies, total_error
from tests.distill.lessons import training

KINDS = ["llama", "llama3-rope", "mistral", "qwen2", "qwen3", "qwen3-untied"]
FLOAT32 = 1e-4  # largest relative error of a gradient
BFLOAT16 = 2e-2


@pytest.fixture(scope="module")
def qwen3(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return pair("qwen3", tmp_path_factory.mktemp("qwen3"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("file", ["", "model.gguf"])
def test_every_kind_that_is_covered_learns_the_same(kind: str, file: str, tmp_path: Path) -> None:
    both = pair(kind, tmp_path)
    wishes = training(kl_reg_weight=0.2, alpha=0.3)

    plain, fast = outcome(both.plain(), replies(), wishes), outcome(both.fast(file=file), replies(), wishes)

    assert fast.losses == pytest.approx(plain.losses, rel=FLOAT32)
    assert apart(fast, plain) < FLOAT32
    for ours, theirs in zip(fast.own, plain.own, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


WAYS: list[dict[str, Any]] = [
    {"again": 99},
    {"again": 1},
    {"packed": True},
    {"packed": True, "again": 99},
    {"rows": 1},
    {"rows": 70, "again": 99},
]


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_saving_memory_changes_nothing(way: dict[str, Any], qwen3: Pair) -> None:
    wishes = training(alpha=0.5)

    plain, fast = outcome(qwen3.plain(), replies(4), wishes), outcome(qwen3.fast(**way), replies(4), wishes)

    assert apart(fast, plain) < FLOAT32


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_a_folders_weights_may_stay_in_their_files(stored: torch.dtype, qwen3: Pair) -> None:
    """float32 computed from bfloat16 on disk is what a processor does that knows no bfloat16."""
    random_models.loaded(qwen3.folder, stored).save_pretrained(qwen3.folder / str(stored))
    folder, wishes = str(stored), training(alpha=0.5, kl_reg_weight=0.2)

    whole = outcome(qwen3.fast(file=folder), replies(), wishes)
    packed = outcome(qwen3.fast(file=folder, packed=True), replies(), wishes)

    assert packed.losses == whole.losses
    assert apart(packed, whole) == 0


@pytest.mark.parametrize("alpha", [0.0, 0.05, 1.0])
@pytest.mark.parametrize("support", ["teacher", "student"])
@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_every_objective_has_the_same_gradient(alpha: float, support: str, weight: float, qwen3: Pair) -> None:
    wishes = training(alpha=alpha, support=support, kl_reg_weight=weight, teacher_top_k=10, is_clip=1.0)

    plain, fast = outcome(qwen3.plain(), replies(), wishes), outcome(qwen3.fast(), replies(), wishes)

    assert fast.losses == pytest.approx(plain.losses, rel=FLOAT32)
    assert apart(fast, plain) < FLOAT32


def test_long_prompts_in_many_nodes_give_the_same(qwen3: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "LONGEST", 16)
    said = replies(4, system=150)

    plain, fast = outcome(qwen3.plain(), said, training()), outcome(qwen3.fast(), said, training())

    assert apart(fast, plain) < FLOAT32


@pytest.mark.parametrize("author", ["base", "student", "start", "another"])
def test_whoever_wrote_the_reply_it_weighs_the_same(author: str, qwen3: Pair, tmp_path: Path) -> None:
    random_models.random_adapter(random_models.loaded(qwen3.folder, torch.float32), tmp_path / "v2", r=8)
    folder = {"base": None, "student": STUDENT, "start": qwen3.adapter, "another": tmp_path / "v2"}[author]
    said = replies(behaviour=folder)

    plain = outcome(qwen3.plain(), said, training())
    fast = outcome(qwen3.fast(start=qwen3.adapter), said, training())

    assert fast.losses == pytest.approx(plain.losses, rel=FLOAT32)
    assert apart(fast, plain) < FLOAT32


def test_two_replies_to_one_prompt_share_it(qwen3: Pair) -> None:
    first, second, _ = replies()
    said = [first, replace(second, prompt=first.prompt, hindsight=first.hindsight)]

    plain, fast = outcome(qwen3.plain(), said, training()), outcome(qwen3.fast(), said, training())

    assert apart(fast, plain) < FLOAT32


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
@pytest.mark.parametrize("again", [0, 99])
def test_in_bfloat16_the_gradient_is_near_the_one_of_float32(kind: str, again: int, tmp_path: Path) -> None:
    both = pair(kind, tmp_path, rounded=True, **WIDE)
    wishes = training(alpha=0.0, kl_reg_weight=0.1)

    exact = outcome(both.plain(), replies(4), wishes)
    fast = outcome(both.fast(torch.bfloat16, again=again), replies(4), wishes)

    assert total_error(fast, exact) < BFLOAT16


@pytest.mark.parametrize(("shape", "top_k", "limit"), [({}, 30, 1.0), (WIDE, 100, BFLOAT16)], ids=["narrow", "wide"])
def test_in_bfloat16_it_loses_what_the_recipe_loses(
    shape: dict[str, Any], top_k: int, limit: float, tmp_path: Path
) -> None:
    """One gradient is off by chance: small differences of large numbers, each rounded to eight bits. So, on average."""
    errors: list[tuple[float, float]] = []
    for kind in ("llama", "qwen2", "qwen3"):
        both = pair(kind, tmp_path / kind, rounded=True, **shape)
        for alpha in (0.0, 0.05, 0.5, 1.0):
            wishes = training(alpha=alpha, kl_reg_weight=0.1, teacher_top_k=top_k)
            exact = outcome(both.plain(), replies(4), wishes)
            plain, fast = (outcome(make(torch.bfloat16), replies(4), wishes) for make in (both.plain, both.fast))
            errors.append((total_error(fast, exact), total_error(plain, exact)))

    ours, theirs = (sum(column) / len(errors) for column in zip(*errors, strict=True))
    assert ours < min(limit, 1.25 * theirs)


def test_after_an_update_the_student_scores_like_the_recipe(qwen3: Pair) -> None:
    plain, fast = qwen3.plain(), qwen3.fast()
    for student in (plain, fast):
        outcome(student, replies(), training())
        torch.optim.SGD(student.parameters.values(), lr=1.0).step()

    for ours, theirs in zip(fast.log_probs(replies()), plain.log_probs(replies()), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["gemma3", "phi3", "phi3-long", "qwen3-yarn"])
def test_what_it_does_not_cover_is_left_to_the_recipe(kind: str, tmp_path: Path) -> None:
    random_models.of_kind(kind, tmp_path)
    export_model(tmp_path, tmp_path / "model.gguf", dtype="f32")

    assert files_of(tmp_path) is None
    assert files_of(tmp_path / "model.gguf") is None


def test_a_window_over_the_last_tokens_is_left_to_the_recipe(tmp_path: Path) -> None:
    random_models.mistral(tmp_path, sliding_window=8)

    assert files_of(tmp_path) is None
