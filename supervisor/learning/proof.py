"""Proof that a lesson is live: the served model must give the trained model's log-probabilities, not the old ones."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from supervisor.distill.job import DistillResult, Probe
from supervisor.engines.engine import Engine, Passage, Seen
from supervisor.errors import EngineError

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
    """Ask the served model for the most moved tokens of the most moved reply. Raises EngineError when it does not tell.

    The prompt goes as it was trained on: the trainer may have cut it, and wrote the tools into it.
    """
    probe = max(result.probes, key=lambda one: max(changes(one)))
    passage = Passage(probe.prompt, probe.token_ids, probe.text, probe.starts, probe.pieces)
    positions = most_moved(probe)
    seen = await engine.look(passage, positions, model=engine.served.adapter)
    return compare(probe, positions, seen)


def most_moved(probe: Probe) -> list[int]:
    """Positions in the reply, ascending: an engine reads each prompt on from the one before."""
    size = changes(probe)
    return sorted(sorted(range(len(size)), key=size.__getitem__, reverse=True)[:MOST_MOVED])


def compare(probe: Probe, positions: Sequence[int], seen: Sequence[Seen | None]) -> Proof:
    """Where the served model only gave a bound, nothing below the bound can be told apart: all is compared above it."""
    moved, apart = [], []
    for position, token in zip(positions, seen, strict=True):
        if token is None:
            continue
        floor = -math.inf if token.exact else token.logprob
        before, after = max(probe.before[position], floor), max(probe.after[position], floor)
        moved.append(abs(after - before))
        apart.append(abs(after - token.logprob))
    if not moved:
        raise EngineError("the engine cannot say how likely it finds any token of the reply; the lesson is not proved")
    return Proof(moved=sum(moved) / len(moved), apart=sum(apart) / len(apart))


def changes(probe: Probe) -> list[float]:
    """How far each reply token's log-probability moved."""
    return [abs(now - was) for was, now in zip(probe.before, probe.after, strict=True)]
