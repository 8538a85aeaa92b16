"""What one course of lessons came to, and how several are told together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from bench.learning_metrics import PREFERENCES, Drift, collapsed


@dataclass(frozen=True)
class Point:
    """The served model at one moment; shares from 0 to 1, entropy in nats per token."""

    lessons: int
    obeys: dict[str, float]  # per preference, as the engine samples by itself
    sampled: dict[str, float]  # the same at ``--temperature``
    tasks: float
    entropy: float  # of the sampled replies
    alike: float  # self-ROUGE-L of the sampled replies
    drift: Drift  # of the bare base's own replies
    asked: dict[str, float] | None = None  # per preference, when the question asks for it; at the two ends only


@dataclass(frozen=True)
class Lesson:
    version: str | None
    state: str
    trained_s: float  # in the trainer's process, its start included
    served_s: float  # from feedback to answer


@dataclass(frozen=True)
class Run:
    preference: str
    seed: int
    curve: tuple[Point, ...]  # before, and after some lessons, the last among them
    lessons: tuple[Lesson, ...]

    @property
    def before(self) -> Point:
        return self.curve[0]

    @property
    def after(self) -> Point:
        return self.curve[-1]

    @property
    def others(self) -> list[str]:
        return [one for one in PREFERENCES if one != self.preference]

    @property
    def entropy_ratio(self) -> float:
        return self.after.entropy / self.before.entropy

    def moved(self, value: Callable[[Point, str], float], worst: Callable[[list[float]], float]) -> float:
        """By how much the other preference moved for which that is worst."""
        return worst([value(self.after, one) - value(self.before, one) for one in self.others])

    @property
    def problems(self) -> list[str]:
        """Aims that were missed and limits that were passed."""
        target = f"{self.preference} {self.after.obeys[self.preference]:.0%} (aim 95 %)"
        missed = [target] if self.after.obeys[self.preference] < 0.95 else []
        losses = {
            "obeys others unasked": -self.moved(lambda point, one: point.obeys[one], max),
            "obeys others when asked": self.moved(asked, min),
            "tasks": self.after.tasks - self.before.tasks,
        }
        missed += [
            f"{name}: {abs(by) * 100:.1f} points {'more' if name.endswith('unasked') else 'less'} (aim 2)"
            for name, by in losses.items()
            if by < -0.02
        ]
        return missed + collapsed(self.entropy_ratio, self.after.alike, self.after.drift)


def asked(point: Point, preference: str) -> float:
    return (point.asked or {})[preference]


Value = Callable[[Run], tuple[float, float]]  # before and after

ROWS: dict[str, Value] = {
    "obeyed": lambda run: (run.before.obeys[run.preference], run.after.obeys[run.preference]),
    "obeyed, sampled": lambda run: (run.before.sampled[run.preference], run.after.sampled[run.preference]),
    "others": lambda run: both(run, lambda point: fmean(point.obeys[one] for one in run.others)),
    "others, sampled": lambda run: both(run, lambda point: fmean(point.sampled[one] for one in run.others)),
    "others when asked": lambda run: both(run, lambda point: fmean(asked(point, one) for one in run.others)),
    "tasks": lambda run: (run.before.tasks, run.after.tasks),
    "entropy": lambda run: (run.before.entropy, run.after.entropy),
    "self-ROUGE-L": lambda run: (run.before.alike, run.after.alike),
    "drift": lambda run: (run.before.drift.signed, run.after.drift.signed),
    "drift, absolute": lambda run: (run.before.drift.absolute, run.after.drift.absolute),
}
NATS = {"entropy", "self-ROUGE-L", "drift", "drift, absolute"}  # no shares


def both(run: Run, value: Callable[[Point], float]) -> tuple[float, float]:
    return value(run.before), value(run.after)


def table(runs: Sequence[Run]) -> list[str]:
    """Markdown: before → after, the mean over the seeds, and the worst of them where it is worse than that."""
    taught = [one for one in PREFERENCES if any(run.preference == one for run in runs)]
    lines = [f"| | {' | '.join(taught)} |", "|---" * (len(taught) + 1) + "|"]
    for name, value in ROWS.items():
        cells = [cell(name, [value(run) for run in runs if run.preference == one]) for one in taught]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def cell(name: str, pairs: Sequence[tuple[float, float]]) -> str:
    def shown(value: float) -> str:
        return f"{value:.2f}" if name in NATS else f"{value * 100:.1f}"

    before, after = (fmean(values) for values in zip(*pairs, strict=True))
    ends = sorted(value for _, value in pairs)
    spread = f" ({shown(ends[0])}–{shown(ends[-1])})" if len(pairs) > 1 and shown(ends[0]) != shown(ends[-1]) else ""
    return f"{shown(before)} → {shown(after)}{spread}"
