"""The fast engine as a student: how far it is, and how replies are gathered into passes."""

from pathlib import Path

import pytest

from supervisor.distill.fast.tree import pack
from tests.distill.fast.pupils import Pair, pair, replies
from tests.distill.lessons import training


@pytest.fixture(scope="module")
def qwen3(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return pair("qwen3", Path(tmp_path_factory.mktemp("qwen3")))


@pytest.mark.parametrize("rows", [1, 10_000])
@pytest.mark.parametrize("again", [0, 1])
def test_progress_is_told_layer_by_layer_to_the_end(rows: int, again: int, qwen3: Pair) -> None:
    student, said = qwen3.fast(rows=rows, again=again), replies(3)
    reading: list[float] = []
    updating: list[float] = []

    goals = student.goals(said, training(), reading.append)
    student.gradients(said, goals, training(), updating.append)

    for heard in (reading, updating):
        assert heard == sorted(heard)
        assert heard[-1] == pytest.approx(1.0)
    layers, passes = student.model.shape.layers, 3 if rows == 1 else 1
    assert (len(reading), len(updating)) == (passes * layers, 2 * passes * layers)


@pytest.mark.parametrize(("rows", "passes"), [(1, 4), (80, 3), (10_000, 1)])
def test_as_many_replies_go_into_a_pass_as_fit(rows: int, passes: int, qwen3: Pair) -> None:
    student, said = qwen3.fast(rows=rows), replies(4)

    groups = list(student.groups(said))

    assert [reply for group in groups for reply in group] == said
    assert len(groups) == passes
    for group in groups:
        packed = pack([(*reply.prompt, *reply.tokens) for reply in group])
        assert len(group) == 1 or len(packed.tokens) <= rows
