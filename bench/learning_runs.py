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
class Told:
    """The bare model while the feedback stands in its context; shares as in Point."""

    obeys: dict[str, float]
    sampled: dict[str, float]
    asked: dict[str, float]  # of the other preferences


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
    told: Told

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


def asked(at: "Point | Told", preference: str) -> float:
    return (at.asked or {})[preference]


Shares = Point | Told

SHARES: dict[str, Callable[[Run, Shares], float]] = {
    "obeyed": lambda run, at: at.obeys[run.preference],
    "obeyed, sampled": lambda run, at: at.sampled[run.preference],
    "others": lambda run, at: fmean(at.obeys[one] for one in run.others),
    "others, sampled": lambda run, at: fmean(at.sampled[one] for one in run.others),
    "others when asked": lambda run, at: fmean(asked(at, one) for one in run.others),
}
NUMBERS: dict[str, Callable[[Point], float]] = {
    "entropy": lambda point: point.entropy,
    "self-ROUGE-L": lambda point: point.alike,
    "drift": lambda point: point.drift.signed,
    "drift, absolute": lambda point: point.drift.absolute,
}


def table(runs: Sequence[Run]) -> list[str]:
    """Markdown, one column per preference, as ``cell`` and ``share_cell`` say."""
    taught = {one: mine for one in PREFERENCES if (mine := [run for run in runs if run.preference == one])}
    lines = [f"| | {' | '.join(taught)} |", "|---" * (len(taught) + 1) + "|"]
    for name, share in SHARES.items():
        lines.append(row(name, [share_cell(share, mine) for mine in taught.values()]))
    lines.append(
        row("tasks", [cell([points(run, lambda at: 100 * at.tasks) for run in mine], 1) for mine in taught.values()])
    )
    for name, number in NUMBERS.items():
        lines.append(row(name, [cell([points(run, number) for run in mine], 2) for mine in taught.values()]))
    return lines


def row(name: str, cells: Sequence[str]) -> str:
    return f"| {name} | {' | '.join(cells)} |"


def points(run: Run, value: Callable[[Point], float]) -> tuple[float, float]:
    return value(run.before), value(run.after)


def share_cell(share: Callable[[Run, Shares], float], runs: Sequence[Run]) -> str:
    """In percent, and in brackets for the bare model that was told."""
    pairs = [points(run, lambda at, run=run: 100 * share(run, at)) for run in runs]
    return f"{cell(pairs, 1)} [{100 * fmean(share(run, run.told) for run in runs):.1f}]"


def cell(pairs: Sequence[tuple[float, float]], digits: int) -> str:
    """Before → after: means, and in parentheses from the lowest to the highest."""
    before, after = (fmean(values) for values in zip(*pairs, strict=True))
    ends = [f"{value:.{digits}f}" for value in sorted(value for _, value in pairs)]
    spread = f" ({ends[0]}–{ends[-1]})" if ends[0] != ends[-1] else ""
    return f"{before:.{digits}f} → {after:.{digits}f}{spread}"
