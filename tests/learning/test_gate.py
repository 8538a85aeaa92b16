import math

import pytest

from supervisor.distill.job import DistillResult
from supervisor.learning.gate import Limits, judge, moved
from tests.learning.results import probe, result

NAN, INF = math.nan, math.inf


def test_a_lesson_that_moved_the_model_within_limits_passes() -> None:
    verdict = judge(result(), Limits())

    assert verdict.passed
    assert verdict.reason == "finite, and 0.5 nats a token away from before"


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (result(grad_norm=NAN), "not a number: grad_norm"),
        (result(kl_reg=INF, distill_loss=-INF), "not a number: distill_loss, kl_reg"),
        (result(probe(after=(-1.5, NAN))), "the trained model gives no finite probabilities"),
        (result(probe(), probe(after=(-INF, -2.0))), "the trained model gives no finite probabilities"),
        (result(probe(after=(-1.0, -2.0))), "the lesson changed nothing: try a higher learning_rate or more updates"),
        (
            result(probe(before=(-4.0, -2.0), after=(-0.5, -0.5))),
            "a reply became 2.5 nats a token likelier (limit 2.0); it collapses onto it",
        ),
        (
            result(probe(), probe(before=(-5.0,), after=(0.0,))),
            "a reply became 5.0 nats a token likelier (limit 2.0); it collapses onto it",
        ),
    ],
)
def test_what_is_broken_for_certain_does_not_pass(broken: DistillResult, reason: str) -> None:
    verdict = judge(broken, Limits())

    assert not verdict.passed
    assert verdict.reason == reason


def test_a_reply_may_become_as_unlikely_as_the_feedback_wants() -> None:
    assert judge(result(probe(before=(-1.0, -1.0), after=(-30.0, -1.0))), Limits()).passed


def test_the_limit_is_what_it_is_set_to() -> None:
    rising = result(probe(before=(-1.0,), after=(-0.5,)))

    assert judge(rising, Limits(drift=0.5)).passed
    assert not judge(rising, Limits(drift=0.4)).passed


def test_the_movement_is_the_mean_over_replies() -> None:
    assert moved(result(probe((-1.0,), (-2.0,)), probe((-1.0, -1.0), (-1.0, -3.0)))) == 1.0
