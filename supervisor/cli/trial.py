"""What the demo shows and how it judges itself."""

import re
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten

from pydantic import BaseModel, ValidationError
from rich.markup import escape
from rich.table import Table

from supervisor.cli.show import console
from supervisor.errors import SettingsError

EMOJI = re.compile("[\U0001f1e6-\U0001faff\u2600-\u27bf\u2b50\u2b55\u231a\u231b\u23e9-\u23f3]")
PASS_SHARE = 0.8  # of the replies without emojis afterwards, and of the tasks that were right before


class Task(BaseModel, frozen=True):
    prompt: str
    answer: str


class HeldOut(BaseModel, frozen=True):
    style: list[str]
    tasks: list[Task]


class Prompts(BaseModel, frozen=True):
    """``prompts.json`` of the bundled model; what is held out was never trained on."""

    train: list[str]
    held_out: HeldOut
    feedback: dict[str, dict[str, list[str]]]


@dataclass(frozen=True)
class Turn:
    """One question and its reply; seconds from asking to the first piece, and to the end."""

    prompt: str
    reply: str
    first_s: float
    total_s: float


@dataclass(frozen=True)
class Trial:
    """Everything the demo measured; times in seconds."""

    feedback: str
    before: tuple[Turn, ...]
    after: tuple[Turn, ...]
    tasks: int
    tasks_before: int
    tasks_after: int
    version: str
    start_s: float
    lesson_s: float
    feedback_to_served_s: float
    supervisor_mib: float  # resident memory of supervisor, API and this command


def load_prompts(folder: Path) -> Prompts:
    path = folder / "prompts.json"
    try:
        return Prompts.model_validate_json(path.read_text())
    except (OSError, ValidationError) as exc:
        raise SettingsError(f"{path} is not usable: {exc}; the checkout or wheel is incomplete") from exc


def judge(trial: Trial) -> list[str]:
    """What did not go as asked; empty when the demo succeeded."""
    problems = []
    count = len(trial.before)
    if not count:
        problems.append("no question was asked: nothing could be shown")
    if sum(emojis(turn.reply) > 0 for turn in trial.before) < PASS_SHARE * count:
        problems.append("too few replies had emojis before the lesson: nothing could be shown")
    clean = sum(emojis(turn.reply) == 0 and bool(turn.reply) for turn in trial.after)
    if clean < PASS_SHARE * count:
        problems.append(f"only {clean} of {count} replies are free of emojis after the lesson")
    if trial.tasks_before < PASS_SHARE * trial.tasks:
        problems.append(f"only {trial.tasks_before} of {trial.tasks} tasks were right before the lesson")
    if trial.tasks_after < PASS_SHARE * trial.tasks_before:
        problems.append(
            f"{trial.tasks_after} of {trial.tasks} tasks are right after the lesson, {trial.tasks_before} before"
        )
    return problems


def emojis(text: str) -> int:
    return len(EMOJI.findall(text))


def same_answer(reply: str, answer: str) -> bool:
    """Equal but for case, spaces and a full stop."""

    def plain(text: str) -> str:
        return " ".join(text.lower().split()).rstrip(".! ")

    return plain(reply) == plain(answer)


def show_trial(trial: Trial) -> None:
    table = Table(
        "asked",
        "before",
        "after",
        title=f"feedback was given on other replies: {escape(trial.feedback)}",
        show_lines=True,
    )
    for before, after in zip(trial.before, trial.after, strict=True):
        table.add_row(escape(before.prompt), shown(before), shown(after))
    console.print(table, highlight=False)
    numbers = Table("", "before", "after", box=None, header_style="dim")
    numbers.add_row("replies with emojis", *(share(turns) for turns in (trial.before, trial.after)))
    numbers.add_row(
        "unrelated tasks right", f"{trial.tasks_before} of {trial.tasks}", f"{trial.tasks_after} of {trial.tasks}"
    )
    numbers.add_row("seconds to the first word", *(f"{first(turns):.1f}" for turns in (trial.before, trial.after)))
    console.print(numbers, highlight=False)
    console.print(
        f"\nstart {trial.start_s:.1f} s, training {trial.lesson_s:.1f} s, "
        f"feedback to served {trial.feedback_to_served_s:.1f} s ({trial.version}), "
        f"supervisor {trial.supervisor_mib:.0f} MiB",
        highlight=False,
    )
    if problems := judge(trial):
        console.print(f"[red]not as asked:[/red] {'; '.join(problems)}", highlight=False)
    else:
        console.print(
            "[green]It learned:[/green] the weights changed, the questions above were not part of the lesson."
        )


def shown(turn: Turn) -> str:
    """The reply's beginning and what was counted in the whole of it."""
    count = emojis(turn.reply)
    beginning = shorten(turn.reply, 160, placeholder=" …")
    return f"{escape(beginning)}\n[dim]{count} emoji{'' if count == 1 else 's'}, {turn.total_s:.1f} s[/dim]"


def share(turns: tuple[Turn, ...]) -> str:
    return f"{sum(emojis(turn.reply) > 0 for turn in turns)} of {len(turns)}"


def first(turns: tuple[Turn, ...]) -> float:
    """Median seconds to the first piece."""
    ordered = sorted(turn.first_s for turn in turns)
    return ordered[len(ordered) // 2]
