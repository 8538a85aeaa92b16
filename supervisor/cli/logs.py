"""clawlama logs: what services and supervisor have printed, from the files, whether anything runs or not."""

import sys
from collections.abc import Callable, Iterable
from datetime import datetime
from time import sleep
from typing import Annotated

import typer

from supervisor.cli.options import Data
from supervisor.errors import NotRunning
from supervisor.services.logs import Line, Logs, logged_services
from supervisor.settings.datadir import DataDir
from supervisor.settings.sources import load_settings

LOOK_AGAIN = 0.2  # seconds between two looks for new lines
INTERRUPTED = 130  # exit code after Ctrl-C, as shells have it

AsLines = Annotated[bool, typer.Option("--json", help='One object per line: {"time", "service", "line"}.')]


def logs(
    services: Annotated[list[str] | None, typer.Argument(help="Only these; none: all.", show_default=False)] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new lines until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", help="How many of the newest lines.", min=0)] = 100,
    data: Data = None,
    json: AsLines = False,
) -> None:
    """Show what was logged, in order of time; works on a stopped clawlama too."""
    folder = DataDir(load_settings(data=data).data).logs
    if not services and not follow and not logged_services(folder):
        raise NotRunning(f"nothing was logged in {folder} yet; start clawlama with: clawlama up")
    read = Logs(folder, services or ())
    form = Line.as_json if json else coloured if sys.stdout.isatty() else str
    try:
        write(read.last(lines), form)
        while follow:
            new = read.fresh()
            write(new, form)
            if not new:
                sleep(LOOK_AGAIN)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    finally:
        read.close()


def write(lines: Iterable[Line], form: Callable[[Line], str]) -> None:
    sys.stdout.writelines(f"{form(line)}\n" for line in lines)
    sys.stdout.flush()


def coloured(line: Line) -> str:
    """For people: the time of the clock on their wall, and what is always the same in the background."""
    return f"\x1b[2m{local(line.time)} {line.service:<10} │\x1b[0m {line.line}"


def local(time: str) -> str:
    try:
        return f"{datetime.fromisoformat(time).astimezone():%m-%d %H:%M:%S}"
    except ValueError:  # a line that is torn has none
        return time
