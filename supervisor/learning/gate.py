"""Whether a trained version may serve: pure, from what the trainer measured.

It catches what is broken for certain; measuring abilities before and after comes with the evals.
"""

import math
from dataclasses import dataclass

from supervisor.distill.job import DistillResult


@dataclass(frozen=True)
class Limits:
    """``drift`` is in nats: how much likelier, per token, a reply that people complained about may have become."""

    drift: float = 2.0


@dataclass(frozen=True)
class Verdict:
    passed: bool
    reason: str


def judge(result: DistillResult, limits: Limits) -> Verdict:
    broken = [name for name, value in result.metrics.items() if not math.isfinite(value)]
    if broken:
        return Verdict(passed=False, reason=f"not a number: {', '.join(sorted(broken))}")
    if not all(math.isfinite(value) for probe in result.probes for value in probe.after):
        return Verdict(passed=False, reason="the trained model gives no finite probabilities")
    if moved(result) == 0.0:
        return Verdict(passed=False, reason="the lesson changed nothing: try a higher learning_rate or more updates")
    rise = max(mean(probe.after) - mean(probe.before) for probe in result.probes)
    if rise > limits.drift:
        return Verdict(
            passed=False,
            reason=f"a reply became {rise:.1f} nats a token likelier (limit {limits.drift}); it collapses onto it",
        )
    return Verdict(passed=True, reason=f"finite, and {moved(result):.2g} nats a token away from before")


def moved(result: DistillResult) -> float:
    """Mean change of the replies' token log-probabilities, in nats."""
    changes = [abs(now - was) for probe in result.probes for was, now in zip(probe.before, probe.after, strict=True)]
    return mean(changes)


def mean(values: list[float] | tuple[float, ...]) -> float:
    return sum(values) / len(values)
