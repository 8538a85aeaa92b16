import math

import pytest

from supervisor.distill.job import Probe
from supervisor.engines.engine import Seen
from supervisor.errors import EngineError
from supervisor.learning.proof import MOST_MOVED, Proof, compare, most_moved
from tests.learning.results import probe


def judged(fingerprint: Probe, served: tuple[float, ...]) -> Proof:
    positions = most_moved(fingerprint)
    return compare(fingerprint, positions, [Seen(served[position]) for position in positions])


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
    proof = judged(probe(before=(-1.0, -2.0), after=(-1.5, -4.0)), served)

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

    proof = judged(probe(before=before, after=after), before)

    assert (proof.moved, proof.apart) == (1.0, 1.0)
    assert not proof.holds


def test_a_bound_tells_a_token_that_became_unlikely_from_one_that_did_not() -> None:
    lesson = probe(before=(-0.1, -9.0), after=(-9.0, -0.1))
    new, old = (Seen(-7.0, exact=False), Seen(-0.1)), (Seen(-0.1), Seen(-7.0, exact=False))

    assert compare(lesson, [0, 1], new).holds
    assert not compare(lesson, [0, 1], old).holds


def test_tokens_that_cannot_be_asked_for_are_left_out_and_at_least_one_must_be_left() -> None:
    lesson = probe(before=(-1.0, -2.0), after=(-1.5, -4.0))

    assert compare(lesson, [0, 1], [None, Seen(-4.0)]) == Proof(moved=2.0, apart=0.0)
    with pytest.raises(EngineError, match="not proved"):
        compare(lesson, [0, 1], [None, None])
