import math

import pytest

from supervisor.learning.proof import MOST_MOVED, Proof, compare
from tests.learning.results import probe


@pytest.mark.parametrize(
    ("served", "holds"),
    [
        ((-1.5, -4.0), True),  # as trained
        ((-1.45, -3.9), True),  # as trained, rounded
        ((-1.0, -2.0), False),  # as before: the adapter is ignored
        ((-1.2, -2.8), False),  # nearer to before than to after
        ((-9.0, -9.0), False),  # something else
        ((math.nan, -4.0), False),
    ],
)
def test_a_lesson_is_live_when_the_served_model_is_near_the_trained_one(served: tuple[float, ...], holds: bool) -> None:
    proof = compare(probe(before=(-1.0, -2.0), after=(-1.5, -4.0)), served)

    assert proof.conclusive
    assert proof.holds is holds


@pytest.mark.parametrize(("apart", "holds"), [(0.0, True), (0.009, True), (0.02, False)])
def test_a_lesson_that_moved_next_to_nothing_is_not_told_from_rounding(apart: float, holds: bool) -> None:
    proof = Proof(moved=0.005, apart=apart)

    assert not proof.conclusive
    assert proof.holds is holds


def test_only_the_tokens_that_moved_most_count() -> None:
    still, changed = 500, MOST_MOVED
    before = (-1.0,) * (still + changed)
    after = (-1.0,) * still + (-2.0,) * changed

    proof = compare(probe(before=before, after=after), before)

    assert (proof.moved, proof.apart) == (1.0, 1.0)
    assert not proof.holds
