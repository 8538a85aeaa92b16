"""clawlama doctor: can this machine run it, what would be run, and what suits it best?  Starts nothing."""

import json as json_text
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.markup import escape
from rich.table import Table

from supervisor.cli.options import AsJson, Data
from supervisor.cli.show import as_json, console
from supervisor.errors import ClawlamaError, SettingsError
from supervisor.host.detect import detect
from supervisor.host.facts import HostFacts
from supervisor.plan.explain import explain as explained
from supervisor.plan.plan import Plan
from supervisor.plan.recommend import recommended, tier_of
from supervisor.plan.table import model_rows, tier_rows
from supervisor.preflight import Finding, choice_for, findings, plan_for
from supervisor.settings.reference import markdown_table, setting_rows
from supervisor.settings.settings import Settings
from supervisor.settings.sources import load_settings


def doctor(
    data: Data = None,
    explain: Annotated[bool, typer.Option(help="Also say what would be run, and why.")] = False,
    models: Annotated[bool, typer.Option(help="Only list which model suits which machine, and this one.")] = False,
    machine: Annotated[
        Path | None, typer.Option(help="Explain for the machine of this file, made by: clawlama doctor --json")
    ] = None,
    json: AsJson = False,
) -> None:
    """Check this machine: data folder, disk, memory, Node, OpenClaw, ports. Exit code 1 if something is wrong."""
    settings = load_settings(data=data)
    facts = recorded(machine) if machine else detect(settings.data)
    settings = usual(settings) if machine else settings
    if models:
        show_models(facts)
        return
    found = [] if machine else list(findings(settings, facts))
    plan = planned(settings, facts)
    if json:
        as_json(everything(facts, found, plan))
    else:
        show_findings(found)
        if explain or machine:
            console.print(
                ("\n" if found else "") + explained(facts, plan), markup=False, highlight=False, soft_wrap=True
            )
    if (machine and not isinstance(plan, Plan)) or not all(finding.ok for finding in found):
        raise typer.Exit(1)


def recorded(file: Path) -> HostFacts:
    """The machine that ``clawlama doctor --json`` described. Raises SettingsError."""
    try:
        told = json_text.loads(file.read_text())
        facts = told["facts"] if isinstance(told, dict) and "facts" in told else told
        return HostFacts.model_validate_json(json_text.dumps(facts))
    except (OSError, UnicodeDecodeError) as exc:
        raise SettingsError(f"{file} cannot be read: {exc}") from exc
    except ValidationError as exc:
        first = exc.errors()[0]
        problem = f"{'.'.join(map(str, first['loc']))}: {first['msg']}".lstrip(": ")
    except ValueError as exc:
        problem = str(exc)
    raise SettingsError(f"{file} does not describe a machine ({problem}); make it with: clawlama doctor --json")


def usual(settings: Settings) -> Settings:
    """For another machine than this: Ollama with what is recommended there, unless something else was chosen."""
    if settings.model is None and settings.engine == "auto":
        return settings.model_copy(update={"engine": "ollama"})
    return settings


def planned(settings: Settings, facts: HostFacts) -> Plan | ClawlamaError:
    try:
        plan = plan_for(facts, settings)
    except ClawlamaError as exc:
        return exc
    model = choice_for(facts, settings).model
    return plan or SettingsError(
        f"{model} is not in our list (clawlama doctor --models); what it needs is known once Ollama has it"
    )


def everything(facts: HostFacts, found: list[Finding], plan: Plan | ClawlamaError) -> dict[str, object]:
    return {
        "findings": [asdict(finding) for finding in found],
        "facts": facts.model_dump(mode="json"),
        "plan": list(plan.reasons) if isinstance(plan, Plan) else [f"no plan: {plan}"],
        "recommended": recommended(facts).model.name,
    }


def show_findings(found: list[Finding]) -> None:
    for finding in found:
        mark = "[green]ok[/green]  " if finding.ok else "[bold red]fail[/bold red]"
        console.print(f"{mark} {finding.name}: {escape(finding.detail)}", highlight=False, soft_wrap=True)


def show_models(facts: HostFacts) -> None:
    """The tiers, this machine's marked; the models; and what is recommended here, which goes by the machine itself."""
    here = tier_of(facts)
    tiers = narrow("", "machine", "model", "context", "in a lesson", "serves only")
    for row in tier_rows():
        mark = "→" if row.tier == here else ""
        tiers.add_row(mark, row.tier.label, row.model, row.context, row.lessons, row.serves_only)
    known = narrow("", "model", "quantisation", "download", "longest", "cache/1k", "a lesson")
    for model in model_rows():
        known.add_row("", model.name, model.quantization, model.download, model.longest, model.cache, model.lesson)
    console.print(tiers, "", known, "", highlight=False)
    console.print(f"recommended here: [bold]{recommended(facts).model.name}[/bold]", highlight=False)


def plain(*titles: str) -> Table:
    return Table(*titles, box=None, header_style="dim", pad_edge=False)


def narrow(*titles: str) -> Table:
    """Rows stay on one line each; a terminal of 80 columns holds them."""
    table = Table(box=None, header_style="dim", pad_edge=False)
    for title in titles:
        table.add_column(title, no_wrap=True)
    return table


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
        table = plain("name", "default", "meaning")
        for row in rows:
            table.add_row(
                row.name, row.default, row.meaning + (f" [dim]({', '.join(row.also)})[/dim]" if row.also else "")
            )
        console.print(table, highlight=False)
