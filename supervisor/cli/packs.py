"""clawlama packs: what a GPU needs here, what of it is installed, and installing it by hand."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import anyio
import typer
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from supervisor.cli.options import AsJson, Data
from supervisor.cli.show import as_json, console
from supervisor.engines.ollama.server import find_ollama
from supervisor.engines.ollama.setup import address
from supervisor.errors import PackError
from supervisor.host.detect import detect
from supervisor.host.facts import HostFacts
from supervisor.packs.choose import packs_for, setup_for
from supervisor.packs.installed import find, record_of, remove
from supervisor.packs.pack import Pack, known_packs, shipped
from supervisor.packs.packs import Packs
from supervisor.packs.rate import size
from supervisor.packs.want import Wanted
from supervisor.preflight import choice_for
from supervisor.running import held
from supervisor.settings.datadir import DataDir
from supervisor.settings.settings import Settings
from supervisor.settings.sources import child_environment, load_settings

REDRAW = 0.25  # seconds


def packs(
    action: Annotated[Literal["list", "install", "remove"], typer.Argument(help="What to do.")] = "list",
    name: Annotated[
        str | None, typer.Argument(help="A pack; without it, install takes what this machine wants.")
    ] = None,
    into: Annotated[Path | None, typer.Option(help="Install here instead, to bake it into an image.")] = None,
    data: Data = None,
    json: AsJson = False,
) -> None:
    """List, install or remove what an NVIDIA GPU needs: Ollama's CUDA libraries, and CUDA torch for lessons."""
    settings = load_settings(data=data)
    facts = detect(settings.data)
    here = packs_for(settings, facts, ollama=our_ollama(settings, facts))
    if action == "list":
        show(here, facts, settings, json=json)
    elif action == "install":
        chosen = [named(name, facts)] if name else here.setup.wanted
        if not chosen:
            console.print(nothing(here, facts, settings), highlight=False, soft_wrap=True)
        anyio.run(install, Packs(setup_for(settings, Wanted(), home=into)) if into else here, chosen)
    else:
        take_away(name, settings)


def our_ollama(settings: Settings, facts: HostFacts) -> Path | None:
    """The one that we would start, if any."""
    if choice_for(facts, settings).engine != "ollama" or not address(settings.ollama_host).local:
        return None
    return find_ollama(child_environment().get("PATH"))


def named(name: str, facts: HostFacts) -> Pack:
    known = {pack.name: pack for pack in known_packs(shipped()) if pack.machine == facts.architecture}
    if name not in known:
        raise PackError(f"there is no pack {name!r} for {facts.architecture}; there are: {', '.join(sorted(known))}")
    return known[name]


async def install(here: Packs, chosen: Sequence[Pack]) -> None:
    for pack in chosen:
        new = await installed(here, pack)
        said = "installed; a running clawlama takes it when it starts the next time" if new else "is there already"
        console.print(f"[bold]{pack.name}[/bold] {pack.version} {said}", highlight=False, soft_wrap=True)


async def installed(here: Packs, pack: Pack) -> bool:
    """With progress on a line that is drawn anew."""
    new, problem = False, None
    with Live(console=console, auto_refresh=False, transient=True) as line:
        async with anyio.create_task_group() as tg:
            tg.start_soon(draw, here, line)
            try:
                new = await here.install(pack)
            except PackError as exc:
                problem = exc  # raised below: a task group would wrap it
            tg.cancel_scope.cancel()
    if problem:
        raise problem
    return new


async def draw(here: Packs, line: Live) -> None:
    while True:
        line.update("\n".join(f"{name}: {state}" for name, state in here.progress.items()), refresh=True)
        await anyio.sleep(REDRAW)


def take_away(name: str | None, settings: Settings) -> None:
    home = DataDir(settings.data).packs
    found = [folder for folder in folders(home) if (record := record_of(folder)) and record.name == name]
    if not found:
        there = sorted(record.name for folder in folders(home) if (record := record_of(folder)))
        raise PackError(f"{name or 'no pack named'}: not installed in {home}; there: {', '.join(there) or 'none'}")
    if held(DataDir(settings.data)):
        raise PackError(f"{name} may be in use by the running clawlama; stop that first")
    for folder in found:
        remove(folder)
    back = "" if settings.gpu_packs == "off" else "; it comes back where a GPU is seen, unless CLAWLAMA_GPU_PACKS=off"
    console.print(f"[bold]{name}[/bold] removed{back}", highlight=False, soft_wrap=True)


def folders(home: Path) -> list[Path]:
    return sorted(path for path in home.iterdir() if path.is_dir()) if home.is_dir() else []


@dataclass(frozen=True)
class Row:
    name: str
    version: str
    state: str
    size: int  # bytes to download, or on the disk
    where: str


def rows(here: Packs) -> list[Row]:
    """What is wanted, and what lies there beside it."""
    listed = [row_of(pack, here) for pack in here.setup.wanted]
    wanted = {row.where for row in listed}
    others = [folder for home in here.setup.homes for folder in folders(home) if str(folder) not in wanted]
    found = [(record, folder) for folder in others if (record := record_of(folder))]
    return listed + [Row(one.name, one.version, "installed, not used", one.size, str(at)) for one, at in found]


def row_of(pack: Pack, here: Packs) -> Row:
    folder = find(pack, here.setup.homes)
    record = record_of(folder) if folder else None
    if record:
        return Row(pack.name, pack.version, "installed", record.size, str(folder))
    state = "wanted, but its checksum is not known to this build" if pack.unpinned else "wanted"
    return Row(pack.name, pack.version, state, pack.download, "")


def show(here: Packs, facts: HostFacts, settings: Settings, *, json: bool) -> None:
    listed = rows(here)
    if json:
        as_json({"packs": [vars(row) for row in listed], "notes": here.setup.notes})
        return
    table = Table("pack", "version", "state", "size", "where", box=None, header_style="dim", pad_edge=False)
    for row in listed:
        table.add_row(row.name, row.version, row.state, size(row.size) if row.size else "", row.where)
    if listed:
        console.print(table, highlight=False)
    if not here.setup.wanted:
        console.print(nothing(here, facts, settings), highlight=False, soft_wrap=True)
    for what, why in here.setup.notes.items():
        console.print(f"{what}: {escape(why)}", highlight=False, soft_wrap=True)


def nothing(here: Packs, facts: HostFacts, settings: Settings) -> str:
    if settings.gpu_packs == "off":
        return "no pack is wanted: CLAWLAMA_GPU_PACKS is off"
    if here.setup.notes:
        return "no pack works here"
    if facts.gpus:
        return "no pack is wanted: what uses the GPU here has its CUDA libraries already"
    return f"no pack is wanted: {facts.gpu_problem or 'there is no NVIDIA GPU here, and a CPU needs none'}"
