"""clawlama lessons: what was taught, and how it went."""

from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from supervisor.cli.client import connected
from supervisor.cli.options import AsJson, Data
from supervisor.cli.show import as_json, console
from supervisor.settings.sources import load_settings

COLOURS = {"done": "green", "failed": "red", "rejected": "yellow"}


def lessons(
    lesson: Annotated[str | None, typer.Argument(help="Show this one whole.")] = None,
    limit: Annotated[int, typer.Option(help="How many of the newest.", min=1)] = 20,
    data: Data = None,
    json: AsJson = False,
) -> None:
    """List the lessons, newest first: state, version made, time taken."""
    with connected(load_settings(data=data)) as client:
        if lesson is not None:
            as_json(client.get(f"/v1/lessons/{lesson}"))
            return
        found = client.get("/v1/lessons", limit=limit)["lessons"]
    if json:
        as_json(found)
    elif not found:
        console.print('no lessons yet; teach it something: clawlama feedback "no emojis, please"')
    else:
        console.print(lessons_table(found), highlight=False)


def lessons_table(found: list[dict[str, Any]]) -> Table:
    table = Table("lesson", "state", "feedback", "version", "took", "", box=None, header_style="dim", pad_edge=False)
    for one in found:
        colour = COLOURS.get(one["state"], "cyan")
        total = one["timing_ms"].get("total")
        table.add_row(
            one["id"],
            f"[{colour}]{one['state']}[/{colour}]",
            str(one["feedback_count"]),
            one["version"] or "",
            "" if total is None else f"{total / 1000:.1f} s",
            escape(one["error"] or (left_out(one["metrics"]) if one["state"] == "done" else one["step"])),
        )
    return table


def left_out(metrics: dict[str, Any]) -> str:
    """What a lesson did not learn from as it was written, in words."""
    told = (
        ("prompt_tokens_cut", "prompt tokens cut"),
        ("reply_tokens_cut", "reply tokens cut"),
        ("replies_respelled", "replies split otherwise by the engine"),
    )
    return ", ".join(f"{metrics[name]:.0f} {words}" for name, words in told if metrics.get(name))
