"""clawlama demo: watch it learn. Asks, gives feedback on other replies, asks again, and judges itself."""

import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import anyio
import httpx
import psutil
import typer
from rich.progress import Progress

from supervisor.boot import booted
from supervisor.cli.options import AsJson
from supervisor.cli.show import as_json, console, lesson_bar
from supervisor.cli.trial import Task, Trial, Turn, judge, load_prompts, same_answer, show_trial
from supervisor.cli.up import until_signalled
from supervisor.errors import ClawlamaError, SettingsError
from supervisor.gateway.client import ask
from supervisor.log import set_up_logging
from supervisor.plan.models import bundled
from supervisor.preflight import free_port
from supervisor.running import Running
from supervisor.settings.settings import Settings
from supervisor.settings.sources import load_settings

MODEL = "tiny-chat"
AT_ONCE = 2  # turns in flight; OpenClaw's own work keeps a core busy
STYLE, TASKS, TAUGHT = 6, 9, 8  # held-out questions, unrelated tasks, replies that get the feedback


class DemoFailed(ClawlamaError):
    """The behaviour did not change as asked, or something else suffered."""


def demo(
    keep: Annotated[
        Path | None, typer.Option(help="Keep the demo's data in this new folder.", show_default=False)
    ] = None,
    verbose: Annotated[bool, typer.Option(help="Show what the services print.")] = False,
    json: AsJson = False,
) -> None:
    """Watch it learn on the bundled model: ask, say "don't use emojis" on other replies, ask again, compare.

    Uses a data folder and ports of its own, and goes through the real OpenClaw. Exit code 0 only if the replies
    changed as asked on questions that no feedback was given on, and unrelated tasks still work.
    """
    set_up_logging("info" if verbose else "error")
    with demo_folder(keep) as folder:
        settings = load_settings(
            data=folder,
            model=MODEL,
            engine="llama",
            api_port=free_port(),
            openclaw_port=free_port(),
            openclaw_bind="loopback",
            gpu_packs="off",  # gigabytes for a model that learns in seconds
        )
        trial = anyio.run(watch, settings, verbose, json)
    if trial is None:
        raise typer.Exit(130)
    if json:
        as_json(asdict(trial))
    if problems := judge(trial):
        raise DemoFailed("; ".join(problems))


@contextmanager
def demo_folder(keep: Path | None) -> Iterator[Path]:
    """A new data folder, gone afterwards unless it is to be kept."""
    if keep is not None:
        if keep.exists() and any(keep.iterdir()):
            raise SettingsError(f"--keep {keep} is not empty; name a new folder")
        yield keep
        return
    folder = Path(tempfile.mkdtemp(prefix="clawlama-demo-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def watch(settings: Settings, verbose: bool, quiet: bool) -> Trial | None:
    """None when it was interrupted."""
    prompts = load_prompts(bundled(MODEL))
    say = (lambda _line: None) if quiet else tell
    trial: Trial | None = None
    async with until_signalled(), booted(settings, say, show_output=verbose) as booted_up:
        running = booted_up.running
        say(f"ready after {booted_up.seconds:.1f} s; every question below goes through OpenClaw")
        style, tasks = prompts.held_out.style[:STYLE], spread(prompts.held_out.tasks, TASKS)
        questions = [*style, *(task.prompt for task in tasks)]
        before = await ask_all(running, questions, "before", "asking before the lesson", quiet=quiet)
        feedback = prompts.feedback["no_emoji"]["held_out"][0]
        taught = await ask_all(running, prompts.train[:TAUGHT], "taught", "other replies, for feedback", quiet=quiet)
        lesson, waited = await teach(running, taught, feedback, quiet=quiet)
        after = await ask_all(running, questions, "after", "asking again", quiet=quiet)
        answers = [task.answer for task in tasks]
        trial = Trial(
            feedback=feedback,
            before=before[:STYLE],
            after=after[:STYLE],
            tasks_before=sum(map(same_answer, (turn.reply for turn in before[STYLE:]), answers)),
            tasks_after=sum(map(same_answer, (turn.reply for turn in after[STYLE:]), answers)),
            tasks=len(tasks),
            version=str(lesson["version"]),
            start_s=round(booted_up.seconds, 2),
            lesson_s=round(lesson["timing_ms"]["distill"] / 1000, 2),
            feedback_to_served_s=round(waited, 2),
            supervisor_mib=round(psutil.Process().memory_info().rss / 2**20, 1),
        )
        if not quiet:
            show_trial(trial)
        say("stopping")
    return trial


async def ask_all(running: Running, questions: Sequence[str], name: str, what: str, *, quiet: bool) -> tuple[Turn, ...]:
    """Each question in a conversation of its own, so that no reply colours the next."""
    turns: dict[int, Turn] = {}
    limit = anyio.Semaphore(AT_ONCE)
    with Progress(console=console, transient=True, disable=quiet) as bar:
        task = bar.add_task(what, total=len(questions))

        async def one(index: int, question: str) -> None:
            async with limit:
                turns[index] = await turn(running, question, f"demo-{name}-{index}")
            bar.advance(task)

        async with anyio.create_task_group() as tg:
            for index, question in enumerate(questions):
                tg.start_soon(one, index, question)
    return tuple(turns[index] for index in range(len(questions)))


async def turn(running: Running, question: str, session: str) -> Turn:
    started = anyio.current_time()
    first = 0.0
    parts: list[str] = []
    async for piece in ask(running.openclaw_url, running.openclaw_token, question, session=session):
        first = first or anyio.current_time() - started
        parts.append(piece)
    return Turn(question, "".join(parts).strip(), round(first, 2), round(anyio.current_time() - started, 2))


async def teach(running: Running, turns: Sequence[Turn], feedback: str, *, quiet: bool) -> tuple[dict[str, Any], float]:
    """Give the same feedback on each reply; the ended lesson and the seconds from the first feedback to serving it."""
    headers = {"Authorization": f"Bearer {running.api_token}"}
    started = anyio.current_time()
    requests = [
        {"lora_id": running.adapter, "prompt": turn.prompt, "response": turn.reply, "feedback": feedback}
        for turn in turns
    ]
    if not quiet:
        tell(f"feedback on {len(turns)} other replies: [bold]{feedback}[/bold]")
    async with httpx.AsyncClient(base_url=running.api_url, headers=headers, timeout=None, trust_env=False) as client:  # noqa: S113 - a lesson takes as long as it takes
        accepted = await client.post("/v1/feedback", params={"wait": "false"}, json={"requests": requests})
        if accepted.status_code != httpx.codes.ACCEPTED:
            raise DemoFailed(f"feedback was not accepted: {accepted.text}")
        lesson_id = accepted.json()["lesson_id"]
        await client.post(f"/v1/lessons/{lesson_id}/start")
        last: dict[str, Any] = {}
        with lesson_bar(quiet=quiet) as update:
            async for event in events(client, f"/v1/lessons/{lesson_id}/events"):
                last = event
                update(event)
    if last.get("state") != "done":
        raise DemoFailed(f"the lesson {last.get('state', 'broke off')}: {last.get('error')}")
    return last, anyio.current_time() - started


async def events(client: httpx.AsyncClient, path: str) -> AsyncIterator[dict[str, Any]]:
    async with client.stream("GET", path) as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            if line == "event: end":
                return
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))


def spread(items: Sequence[Task], count: int) -> list[Task]:
    """``count`` items from all over the list, which is sorted by kind."""
    return [items[index * len(items) // count] for index in range(count)]


def tell(line: str) -> None:
    console.print(f"[dim]…[/dim] {line}", highlight=False)
