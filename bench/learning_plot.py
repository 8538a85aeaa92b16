"""The curves as a picture: one panel per preference, over the lessons."""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

from bench.learning_metrics import PREFERENCES
from bench.learning_runs import Point, Run

TITLES = {"no_emoji": "“No emojis, please”", "concise": "“Be brief”", "identity": "“Call yourself Kuro”"}
LINES: tuple[tuple[str, str, str, Callable[[Run, Point], float]], ...] = (
    ("this preference, as served", "#0a7d4f", "-", lambda run, point: point.obeys[run.preference]),
    ("this preference, sampled", "#0a7d4f", "--", lambda run, point: point.sampled[run.preference]),
    ("the other preferences", "#c2410c", "-", lambda run, point: fmean(point.obeys[one] for one in run.others)),
    ("unrelated tasks", "#1d4ed8", "-", lambda _run, point: point.tasks),
    ("entropy, relative to before", "#6b7280", ":", lambda run, point: point.entropy / run.before.entropy),
)


def draw(runs: Sequence[Run], file: Path) -> None:
    """Lines are means over the seeds, the shade around them is from the lowest to the highest."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    taught = [one for one in PREFERENCES if any(run.preference == one for run in runs)]
    figure, panels = pyplot.subplots(1, len(taught), figsize=(4.2 * len(taught), 3.9), sharey=True, squeeze=False)
    for panel, preference in zip(panels[0], taught, strict=True):
        mine = [run for run in runs if run.preference == preference]
        lessons = [point.lessons for point in mine[0].curve]
        for label, colour, style, value in LINES:
            columns = [[value(run, run.curve[index]) for run in mine] for index in range(len(lessons))]
            panel.plot(lessons, [fmean(column) for column in columns], style, color=colour, label=label, linewidth=2)
            panel.fill_between(
                lessons, [min(column) for column in columns], [max(column) for column in columns],
                color=colour, alpha=0.12, linewidth=0,
            )  # fmt: skip
        panel.axhline(0.95, color="#9ca3af", linewidth=0.8, zorder=0)
        panel.set(title=TITLES[preference], xlabel="lessons")
        panel.set_xticks(lessons)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0][0].set_ylim(bottom=-0.03)  # last: it ends the scaling of all three
    panels[0][0].set_ylabel("share of replies, or ratio")
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="lower center", ncols=len(LINES), frameon=False)
    figure.tight_layout(rect=(0, 0.08, 1, 1))
    figure.savefig(file, dpi=130)
    pyplot.close(figure)
