"""clawlama feedback: say what was wrong with a reply, and watch the lesson."""

from typing import Annotated, Any

import typer

from supervisor.cli.client import Client, Refused, connected
from supervisor.cli.options import AsJson, Data
from supervisor.cli.show import as_json, console, errors, follow_lesson
from supervisor.settings.sources import load_settings


def feedback(
    text: Annotated[str, typer.Argument(help='What should be different, e.g. "no emojis, please".')],
    completion: Annotated[
        str | None, typer.Option(help="Id of the reply; without it, the last one.", show_default=False)
    ] = None,
    wait: Annotated[bool, typer.Option(help="Start the lesson now and wait for it.")] = True,
    data: Data = None,
    json: AsJson = False,
) -> None:
    """Teach the assistant from what you think of a reply (the last one, if you do not name it)."""
    with connected(load_settings(data=data)) as client:
        about = {"completion_id": completion or last_completion(client)}
        lesson = give(client, text, about, wait=wait, quiet=json)
    if json:
        as_json(lesson)


def last_completion(client: Client) -> str:
    found = client.get("/v1/journal/completions", limit=1)["completions"]
    if not found:
        raise Refused("there is no reply yet to give feedback on; say something first: clawlama chat")
    return str(found[0]["id"])


def give(client: Client, text: str, about: dict[str, str], *, wait: bool, quiet: bool) -> dict[str, Any]:
    """Send feedback; with ``wait`` start its lesson at once and draw its progress. The lesson as it then is."""
    body = {"lora_id": client.running.adapter, "feedback": text, **about}
    lesson: dict[str, Any] = client.post("/v1/feedback", body, wait="false")
    lesson_id = lesson["lesson_id"]
    if not wait:
        if not quiet:
            console.print(
                f"noted for lesson {lesson_id} ({lesson['pending']} of {lesson['batch_size']})", highlight=False
            )
        return lesson
    client.post(f"/v1/lessons/{lesson_id}/start", {})
    try:
        done = follow_lesson(client.events(f"/v1/lessons/{lesson_id}/events"), quiet=quiet)
    except KeyboardInterrupt:
        errors.print("the lesson goes on without you; to see what became of it: clawlama lessons", highlight=False)
        raise
    if not quiet:
        seconds = done["timing_ms"]["total"] / 1000
        console.print(f"[green]learned[/green]: {done['version']} serves now ({seconds:.1f} s)", highlight=False)
    return done
