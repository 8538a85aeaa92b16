"""How commands print: one console, one way to show a lesson's progress."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from supervisor.cli.client import Refused

console = Console()
errors = Console(stderr=True)


def as_json(value: Any, *, stderr: bool = False) -> None:  # noqa: ANN401 - whatever JSON holds
    (errors if stderr else console).print_json(json.dumps(value, default=str))


@contextmanager
def lesson_bar(*, quiet: bool = False) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Draws a lesson's progress; call what it yields with each of the lesson's events."""
    bar = Progress(
        TextColumn("  lesson"),
        BarColumn(bar_width=30),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
        console=console,
        disable=quiet,
    )
    with bar:
        task = bar.add_task("waiting", total=1.0)
        yield lambda event: bar.update(task, completed=event["progress"], description=event["step"] or event["state"])


def follow_lesson(events: Iterable[dict[str, Any]], *, quiet: bool = False) -> dict[str, Any]:
    """Draw a lesson's progress until it ends; its last state. Raises Refused when it did not end well."""
    last: dict[str, Any] = {}
    with lesson_bar(quiet=quiet) as update:
        for event in events:
            last = event
            update(event)
    if last.get("state") != "done":
        reason = last.get("error") or "no reason given"
        raise Refused(f"lesson {last.get('id', '?')} {last.get('state', 'ended early')}: {reason}")
    return last
