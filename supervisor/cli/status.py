"""clawlama status: how the running supervisor fares, once or as a view that goes on."""

from collections.abc import Iterator
from time import sleep
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from supervisor.cli.client import Client, connected
from supervisor.cli.options import AsJson, Data
from supervisor.cli.show import as_json, console
from supervisor.services.restart import describe_exit
from supervisor.settings.sources import load_settings

MIB = 2**20
LOOK_AGAIN = 2.0  # seconds
COLOURS = {"ready": "green", "done": "green", "failed": "red", "hanging": "red", "backing_off": "yellow"}


def status(
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Look again every two seconds until Ctrl-C.")] = False,
    data: Data = None,
    json: AsJson = False,
) -> None:
    """Show phase, services, model and adapter of the running clawlama, and what it is doing."""
    with connected(load_settings(data=data)) as client:
        if json:
            as_json(moment(client))
        elif not watch:
            console.print(view(moment(client)), highlight=False)
        else:
            go_on(client)


def go_on(client: Client) -> None:
    try:
        with Live(view(moment(client)), console=console, auto_refresh=False, screen=console.is_terminal) as live:
            while True:
                sleep(LOOK_AGAIN)
                live.update(view(moment(client)), refresh=True)
    except KeyboardInterrupt:
        return


def moment(client: Client) -> dict[str, Any]:
    """Health, its services with the share of the CPU that each takes."""
    health: dict[str, Any] = client.get("/v1/health")
    services: dict[str, Any] = client.get("/v1/services")
    return health | services


def view(moment: dict[str, Any]) -> RenderableType:
    version = moment["version"] or "(nothing learned yet)"
    head = Text.assemble(
        (phase(moment), "bold"), f"  model {moment['model']}, adapter {moment['adapter']} {version}", overflow="fold"
    )
    return Group(
        head, services_table(moment["services"]), *(Text(f" {line}", overflow="fold") for line in remarks(moment))
    )


def phase(moment: dict[str, Any]) -> str:
    """Phase and reason; a reason such as "pulling qwen3:8b 43 %" names the phase by itself."""
    name, reason = str(moment["phase"]), str(moment.get("reason") or "")
    return reason if reason.startswith(name) else f"{name} ({reason})" if reason else name


def remarks(moment: dict[str, Any]) -> Iterator[str]:
    """What went wrong, what is being learned, what is on its way."""
    for service in moment["services"]:
        if problem := service.get("problem"):
            yield f"{service['name']}: {problem}"
    lessons = moment.get("lessons") or {}
    if running := lessons.get("running"):
        yield f"learning {running['id']}: {100 * running['progress']:.0f} % {running['step']}".rstrip()
    if waiting := lessons.get("queued"):
        yield f"lessons waiting: {waiting}"
    if gathering := lessons.get("gathering"):
        yield f"feedback gathered for the next lesson: {gathering}"
    for model, state in moment.get("downloads", {}).items():
        yield f"{model}: {state}"


def services_table(services: list[dict[str, Any]]) -> Table:
    columns = ("service", "state", "pid", "up", "cpu", "memory", "restarts", "last exit")
    table = Table(*columns, box=None, header_style="dim")
    for one in services:
        share, ended = one.get("cpu_percent"), one.get("last_exit")
        state = one["state"].replace("_", " ")
        table.add_row(
            escape(one["name"]),
            f"[{COLOURS.get(one['state'], 'default')}]{state}[/]",
            str(one["pid"] or ""),
            "" if one["uptime"] is None else duration(one["uptime"]),
            "" if share is None else f"{share:.1f} %",
            "" if one["rss"] is None else f"{one['rss'] / MIB:.0f} MiB",
            str(one["restarts"]),
            "" if ended is None else describe_exit(ended),
        )
    return table


def duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
