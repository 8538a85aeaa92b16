"""The command: what people type. An expected error is one line and exit code 1."""

import sys

import typer
from rich.markup import escape

from supervisor.cli import adapters, chat, demo, doctor, feedback, lessons, status, up
from supervisor.cli.show import errors
from supervisor.errors import ClawlamaError

app = typer.Typer(
    name="clawlama",
    help="A private assistant that learns from what you tell it: OpenClaw on a local model, lessons in its weights.",
    epilog="Start it with [bold]clawlama up[/bold], or watch it learn with [bold]clawlama demo[/bold].",
    no_args_is_help=True,
    rich_markup_mode="rich",
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(up.up)
app.command()(demo.demo)
app.command()(chat.chat)
app.command()(feedback.feedback)
app.command()(lessons.lessons)
app.command()(adapters.adapters)
app.command()(status.status)
app.command()(doctor.doctor)
app.command(name="settings")(doctor.show_settings)


def run() -> None:
    """Entry point of the ``clawlama`` command."""
    try:
        app()
    except ClawlamaError as exc:
        for line in str(exc).splitlines():
            errors.print(f"[bold red]clawlama:[/bold red] {escape(line)}", highlight=False, soft_wrap=True)
        sys.exit(1)
