"""clawlama doctor: can this machine run it, and what would be run?  Starts nothing."""

from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from supervisor.cli.options import AsJson, Data
from supervisor.cli.show import as_json, console
from supervisor.errors import ClawlamaError
from supervisor.host.detect import detect
from supervisor.host.facts import HostFacts
from supervisor.preflight import findings, plan_for
from supervisor.settings.reference import markdown_table, setting_rows
from supervisor.settings.settings import Settings
from supervisor.settings.sources import load_settings


def doctor(
    data: Data = None,
    explain: Annotated[bool, typer.Option(help="Also say what would be run, and why.")] = False,
    json: AsJson = False,
) -> None:
    """Check this machine: data folder, disk, memory, Node, OpenClaw, ports. Exit code 1 if something is wrong."""
    settings = load_settings(data=data)
    facts = detect(settings.data)
    found = list(findings(settings, facts))
    if json:
        as_json([asdict(finding) for finding in found])
    else:
        for finding in found:
            mark = "[green]ok[/green]  " if finding.ok else "[bold red]fail[/bold red]"
            console.print(f"{mark} {finding.name}: {escape(finding.detail)}", highlight=False, soft_wrap=True)
        if explain:
            explain_plan(settings, facts)
    if not all(finding.ok for finding in found):
        raise typer.Exit(1)


def explain_plan(settings: Settings, facts: HostFacts) -> None:
    """One line per decision; what prevents a plan is a finding already."""
    try:
        plan = plan_for(facts, settings)
    except ClawlamaError:
        return
    console.print("\n[bold]What would run[/bold]")
    for reason in plan.reasons:
        console.print(f"  {escape(reason)}", highlight=False, soft_wrap=True)


def show_settings(
    markdown: Annotated[bool, typer.Option(help="As in the README.")] = False, json: AsJson = False
) -> None:
    """List every setting with its default, its meaning and the other names it is read from."""
    rows = setting_rows()
    if json:
        as_json([asdict(row) for row in rows])
    elif markdown:
        console.print(markdown_table(), markup=False, highlight=False, soft_wrap=True)
    else:
        table = Table("name", "default", "meaning", box=None, header_style="dim", pad_edge=False)
        for row in rows:
            table.add_row(
                row.name, row.default, row.meaning + (f" [dim]({', '.join(row.also)})[/dim]" if row.also else "")
            )
        console.print(table, highlight=False)
