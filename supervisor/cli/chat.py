"""clawlama chat: talk to the assistant through OpenClaw, from a terminal."""

from functools import partial
from typing import Annotated
from uuid import uuid4

import anyio
import typer
from rich.markup import escape

from supervisor.cli.client import Client, connected
from supervisor.cli.feedback import give
from supervisor.cli.options import Data
from supervisor.cli.show import console, errors
from supervisor.errors import ClawlamaError, NotRunning
from supervisor.gateway.client import ask
from supervisor.settings.sources import load_settings

HELP = "/feedback TEXT teaches it about its last reply, /new forgets the conversation, /quit leaves (Ctrl-D too)"


def chat(
    message: Annotated[str | None, typer.Argument(help="Say this and leave; without it, a conversation.")] = None,
    session: Annotated[str, typer.Option(help="Conversations of the same name continue.")] = "",
    data: Data = None,
) -> None:
    """Talk to your assistant. In a conversation, /feedback teaches it about its last reply."""
    with connected(load_settings(data=data)) as client:
        if not client.running.ready:
            health = client.get("/v1/health")
            raise NotRunning(f"not ready yet: {health['reason'] or health['phase']}; wait for it in: clawlama status")
        name = session or f"cli-{uuid4().hex[:8]}"
        if message is not None:
            anyio.run(partial(say, client, message, name))
            return
        console.print(f"[dim]{HELP}[/dim]")
        converse(client, name)


def converse(client: Client, session: str) -> None:
    last: tuple[str, str] | None = None
    while True:
        try:
            line = console.input("[bold cyan]you[/bold cyan]  ").strip()
        except (EOFError, KeyboardInterrupt):
            console.print()
            return
        try:
            if line in {"/quit", "/exit"}:
                return
            if line == "/new":
                session, last = f"cli-{uuid4().hex[:8]}", None
            elif line.startswith("/feedback"):
                teach(client, last, line.removeprefix("/feedback").strip())
            elif line:
                last = (line, anyio.run(partial(say, client, line, session)))
        except ClawlamaError as exc:  # a conversation goes on after an error
            errors.print(f"[bold red]{escape(str(exc))}[/bold red]", highlight=False)


def teach(client: Client, last: tuple[str, str] | None, text: str) -> None:
    if last is None or not text:
        console.print("[dim]ask something first, then: /feedback what should be different[/dim]")
        return
    prompt, response = last
    give(client, text, {"prompt": prompt, "response": response}, wait=True, quiet=False)


async def say(client: Client, message: str, session: str) -> str:
    """Print the reply as it comes; the whole of it."""
    running = client.running
    parts: list[str] = []
    async for piece in ask(running.openclaw_url, running.openclaw_token, message, session=session):
        parts.append(piece)
        console.print(piece, end="", markup=False, highlight=False, soft_wrap=True)
    console.print()
    return "".join(parts)
