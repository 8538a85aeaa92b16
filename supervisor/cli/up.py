"""clawlama up: start everything and stay."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated

import anyio
import structlog
import typer
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from supervisor.backup.swap import finish_restore
from supervisor.boot import Booted, booted, one_error
from supervisor.cli.options import Data
from supervisor.cli.show import errors
from supervisor.gateway.client import control_ui_url
from supervisor.host.facts import HostFacts
from supervisor.log import set_up_logging
from supervisor.plan.explain import processor
from supervisor.services.signals import Signals, signals_heeded
from supervisor.settings.settings import Settings
from supervisor.settings.sources import data_folder, load_settings
from supervisor.start import Tell
from supervisor.terminal import patient_stderr

GIB = 2**30

log: structlog.stdlib.BoundLogger = structlog.get_logger()


def up(
    data: Data = None,
    model: Annotated[str | None, typer.Option(help="Base model (CLAWLAMA_MODEL).", show_default=False)] = None,
    engine: Annotated[str | None, typer.Option(help="What serves it (CLAWLAMA_ENGINE).", show_default=False)] = None,
    port: Annotated[
        int | None, typer.Option(help="OpenClaw's port (CLAWLAMA_OPENCLAW_PORT).", show_default=False)
    ] = None,
    api_port: Annotated[int | None, typer.Option(help="API port (CLAWLAMA_API_PORT).", show_default=False)] = None,
) -> None:
    """Start the model, OpenClaw and the learning loop, and stay up until Ctrl-C.

    Everything else is set in the environment or in clawlama.toml; see: clawlama settings.
    """
    finish_restore((data or data_folder()).absolute())  # before anything in it is read
    read = partial(load_settings, data=data, model=model, engine=engine, openclaw_port=port, api_port=api_port)
    settings = read()
    with patient_stderr():
        set_up_logging(settings.log_level, settings.log_format)
        anyio.run(stay_up, settings, read)


async def stay_up(settings: Settings, read: Callable[[], Settings]) -> None:
    for_programs = settings.log_format == "json"
    tell = log.info if for_programs else starting
    async with (
        until_signalled(tell) as signals,
        booted(settings, tell, stop=signals.stop, read=read) as running,
    ):
        signals.reload = running.up.reload
        if for_programs:
            home = running.running
            log.info(
                "ready", after=round(running.seconds, 1), chat=home.openclaw_url, api=home.api_url, model=home.model
            )
        else:
            welcome(settings, running)
        await anyio.sleep_forever()
    if for_programs:
        log.info("stopped", data=str(settings.data))
    else:
        kept = f"everything you taught it is kept in {escape(str(settings.data))}"
        errors.print(f"[bold]stopped[/bold]; {kept}", highlight=False, soft_wrap=True)


@asynccontextmanager
async def until_signalled(tell: Tell = lambda _line: None) -> AsyncIterator[Signals]:
    """Signals act on the block, which fails with one error."""
    with one_error():
        async with signals_heeded(tell) as signals:
            yield signals


def starting(line: str) -> None:
    errors.print(f"[dim]…[/dim] {line}", highlight=False, soft_wrap=True)


def welcome(settings: Settings, running: Booted) -> None:
    """The banner, and below it the link on a line of its own: the box would break it, and it would not open."""
    errors.print(banner(settings, running))
    errors.print(f"  [bold]{link(running)}[/bold]\n", highlight=False, soft_wrap=True)


def link(running: Booted) -> str:
    """OpenClaw's web UI; signed in, if nobody has seen the token yet."""
    home = running.running
    return control_ui_url(home.openclaw_url, home.openclaw_token) if running.new_token else home.openclaw_url


def banner(settings: Settings, running: Booted) -> Panel:
    """What a newcomer needs: where to click, what to type, where things are."""
    home = running.running
    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="bold", no_wrap=True)
    rows.add_column(overflow="fold")
    rows.add_row("Chat", "in a browser, at the link below; after a reply you do not like, say")
    rows.add_row("", "[bold]/feedback no emojis, please[/bold]  and ask again")
    if settings.openclaw_bind == "lan":
        rows.add_row("", "(from another machine: with this one's address in place of 127.0.0.1)")
    rows.add_row("or here", 'clawlama chat, then clawlama feedback "be brief"')
    rows.add_row("Token", token_line(running))
    rows.add_row("API", f"{home.api_url}/v1 (its token: secrets/api_token)")
    plan = running.up.plan
    engine = "Ollama" if plan.engine == "ollama" else "the embedded llama.cpp"
    rows.add_row(
        "Model", f"{escape(plan.model.name)} on {engine}, adapter {home.adapter}, context {plan.context} tokens"
    )
    if running.up.prompt_tokens:
        rows.add_row("", f"OpenClaw's prompt, {running.up.prompt_tokens} tokens, is read already")
    rows.add_row("Machine", machine(running.facts))
    rows.add_row("Data", escape(str(settings.data)))
    rows.add_row("Stop", "Ctrl-C; a container: docker stop")
    return Panel(
        rows,
        title=f"ClawLama {home.version} is ready after {running.seconds:.0f} s",
        border_style="green",
        expand=False,
    )


def token_line(running: Booted) -> str:
    where = "secrets/openclaw_token in the data folder"
    return f"in the link, shown this once; kept in {where}" if running.new_token else f"in {where}"


def machine(facts: HostFacts) -> str:
    parts = [processor(facts), f"{facts.memory_total / GIB:.0f} GiB memory"]
    parts += [f"{gpu.name} {gpu.memory_total / GIB:.0f} GiB" for gpu in facts.gpus]
    if facts.gpu_problem:
        parts.append(f"GPU: {facts.gpu_problem}")
    return escape(", ".join(parts))
