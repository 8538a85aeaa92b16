"""Proof that a lesson is live: the served model must give the trained model's log-probabilities, not the old ones."""

from collections.abc import Sequence
from dataclasses import dataclass

from supervisor.distill.job import DistillResult, Probe
from supervisor.engines.engine import Engine

MOST_MOVED = 16  # tokens of a reply that are compared: those that the lesson moved most
RESOLUTION = 0.01  # nats; an f16 adapter on llama.cpp was seen 0.003 away from PEFT in float32


@dataclass(frozen=True)
class Proof:
    """In nats, over the tokens that moved most: how far the lesson moved them, how far off the served model is."""

    moved: float
    apart: float

    @property
    def conclusive(self) -> bool:
        """Whether the lesson moved enough to be told from rounding."""
        return self.moved > RESOLUTION

    @property
    def holds(self) -> bool:
        """The served model is nearer to where training ended than to where it began."""
        return self.apart < self.moved / 2 if self.conclusive else self.apart <= RESOLUTION


async def prove(engine: Engine, result: DistillResult) -> Proof:
    """Score the most moved reply on the served model. Raises EngineError when it cannot be asked.

    The prompt goes as token ids: the trainer may have cut it, and wrote the tools into it.
    """
    probe = max(result.probes, key=lambda one: max(changes(one)))
    score = await engine.score(probe.prompt, probe.token_ids, model=engine.served.adapter)
    return compare(probe, score.logprobs)


def compare(probe: Probe, served: Sequence[float]) -> Proof:
    size = changes(probe)
    most = sorted(range(len(size)), key=size.__getitem__, reverse=True)[:MOST_MOVED]
    return Proof(
        moved=sum(size[token] for token in most) / len(most),
        apart=sum(abs(probe.after[token] - served[token]) for token in most) / len(most),
    )


def changes(probe: Probe) -> list[float]:
    """How far each reply token's log-probability moved."""
    return [abs(now - was) for was, now in zip(probe.before, probe.after, strict=True)]
