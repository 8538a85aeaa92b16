"""clawlama status: how the running supervisor fares."""

from typing import Any

from rich.markup import escape
from rich.table import Table

from supervisor.cli.client import connected
from supervisor.cli.options import AsJson, Data
from supervisor.cli.show import as_json, console
from supervisor.settings.sources import load_settings

MIB = 2**20


def status(data: Data = None, json: AsJson = False) -> None:
    """Show phase, services, model and adapter of the running clawlama."""
    with connected(load_settings(data=data)) as client:
        health = client.get("/v1/health")
    if json:
        as_json(health)
        return
    console.print(
        f"[bold]{escape(moment(health))}[/bold]  model {health['model']}, adapter {health['adapter']} "
        f"{health['version'] or '(nothing learned yet)'}",
        highlight=False,
    )
    console.print(services_table(health["services"]))
    for model, state in health["downloads"].items():
        console.print(f" [dim]{escape(model)}:[/dim] {escape(state)}", highlight=False, soft_wrap=True)


def moment(health: dict[str, Any]) -> str:
    """Phase and reason; a reason such as "pulling qwen3:8b 43 %" names the phase by itself."""
    phase, reason = str(health["phase"]), str(health.get("reason") or "")
    return reason if reason.startswith(phase) else f"{phase} ({reason})" if reason else phase


def services_table(services: list[dict[str, Any]]) -> Table:
    table = Table("service", "state", "pid", "up", "restarts", "memory", box=None, header_style="dim")
    for service in services:
        table.add_row(
            service["name"],
            service["state"],
            str(service["pid"] or ""),
            "" if service["uptime"] is None else duration(service["uptime"]),
            str(service["restarts"]),
            "" if service["rss"] is None else f"{service['rss'] / MIB:.0f} MiB",
        )
    return table


def duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
