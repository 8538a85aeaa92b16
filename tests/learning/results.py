"""What a trainer measured, made up."""

from typing import Any

from supervisor.distill.job import DistillResult, LoraShape, Probe


def probe(before: tuple[float, ...] = (-1.0, -2.0), after: tuple[float, ...] = (-1.5, -2.5), **other: Any) -> Probe:
    values = {
        "sample": "fb-1",
        "prompt": (1, 2, 3),
        "token_ids": tuple(range(len(before))),
        "before": before,
        "after": after,
    }
    return Probe.model_validate(values | other)


def result(*probes: Probe, **metrics: float) -> DistillResult:
    return DistillResult(
        job="les-1",
        step=8,
        metrics={"total_loss": 0.5, **metrics},
        probes=probes or (probe(),),
        lora=LoraShape(),
        seconds={},
        peak_rss=0,
    )
