"""The command: what people type. An expected error is one line and an exit code."""

import sys
from functools import partial
from importlib import import_module
from typing import Any, cast

import typer
from rich.markup import escape
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command_from_info
from typer.models import CommandInfo

from supervisor.cli.show import errors
from supervisor.errors import ClawlamaError
from supervisor.identity import settle, wanted
from supervisor.settings.sources import asked_identity, data_folder, move_in

COMMANDS = {
    "up": "up:up",
    "demo": "demo:demo",
    "chat": "chat:chat",
    "feedback": "feedback:feedback",
    "lessons": "lessons:lessons",
    "adapters": "adapters:adapters",
    "status": "status:status",
    "logs": "logs:logs",
    "restart": "control:restart",
    "reload": "control:reload",
    "stop": "control:stop",
    "backup": "backup:backup",
    "verify": "backup:verify",
    "restore": "backup:restore",
    "doctor": "doctor:doctor",
    "packs": "packs:packs",
    "settings": "doctor:show_settings",
}
"""Each command's module and function, in the order of the help."""


class Commands(TyperGroup):
    """Loads a command when it is asked for: what starts everything takes a second to import, others need none of it."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - whatever typer passes
        super().__init__(**options)
        self.commands = dict.fromkeys(COMMANDS, cast("TyperCommand", None))  # the names, for "did you mean"

    def list_commands(self, ctx: object) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: object, cmd_name: str) -> TyperCommand | None:
        """None for a name that is no command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, function = COMMANDS[cmd_name].partition(":")
        info = CommandInfo(name=cmd_name, callback=getattr(import_module(f"supervisor.cli.{module}"), function))
        return cast("TyperCommand", get_command_from_info(info, pretty_exceptions_short=True, rich_markup_mode="rich"))


app = typer.Typer(
    cls=Commands,
    name="clawlama",
    help="A private assistant that learns from what you tell it: OpenClaw on a local model, lessons in its weights.",
    epilog="Start it with [bold]clawlama up[/bold], or watch it learn with [bold]clawlama demo[/bold].",
    no_args_is_help=True,
    rich_markup_mode="rich",
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def clawlama() -> None:
    """Without it a group that has no command yet is none to typer."""


def run() -> None:
    """Entry point of the ``clawlama`` command."""
    try:
        settle_in()
        app()
    except ClawlamaError as exc:
        for line in str(exc).splitlines():
            errors.print(f"[bold red]clawlama:[/bold red] {escape(line)}", highlight=False, soft_wrap=True)
        sys.exit(exc.exit_code)


def settle_in() -> None:
    """Be the user that we should be, before any command reads or writes; ``up`` looks at every file once more."""
    data = data_folder()
    tell = partial(errors.print, markup=False, highlight=False, soft_wrap=True)
    if settle(wanted(*asked_identity()), data, tell, thorough="up" in sys.argv):
        move_in(data / "home")
