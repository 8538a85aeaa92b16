"""clawlama adapters: what has been learned, version by version, and going back."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from supervisor.adapters.store import AdapterStore, AdapterVersion
from supervisor.cli.client import connected
from supervisor.cli.options import AsJson, Data
from supervisor.cli.show import as_json, console
from supervisor.settings.datadir import DataDir
from supervisor.settings.sources import load_settings

BASE = "base"
MIB = 2**20


def adapters(
    use: Annotated[
        str | None, typer.Option(metavar="VERSION", help="Serve this version from now on; 'base': the bare model.")
    ] = None,
    remake: Annotated[
        str | None, typer.Option(metavar="VERSION", help="Teach this version's lesson again and compare the bytes.")
    ] = None,
    base: Annotated[Path | None, typer.Option(help="For --remake: where its base model is now.")] = None,
    data: Data = None,
    json: AsJson = False,
) -> None:
    """List what was learned, version by version, and which one serves; --use goes back to another.

    Listing works without a running clawlama too. The next lesson continues from the version that serves. What was
    learned on one model waits for it while another serves.
    """
    if remake is not None:
        from supervisor.cli.remake import show_remake  # noqa: PLC0415 - all that a lesson needs; listing needs little

        if not show_remake(load_settings(data=data), remake, base, json=json):
            raise typer.Exit(1)
        return
    if use is not None:
        with connected(load_settings(data=data)) as client:
            version = None if use == BASE else use
            client.post("/v1/lora/current", {"lora_id": client.running.adapter, "version": version})
    root = DataDir(load_settings(data=data).data).adapters
    store = AdapterStore(root)
    found = {name: [(one, is_current(root, one)) for one in store.versions(name)] for name in store.names()}
    if json:
        rows = [pair for versions in found.values() for pair in versions]
        as_json([{**version.manifest.model_dump(mode="json"), "current": current} for version, current in rows])
    elif not found:
        console.print("nothing learned yet: the bare model serves")
    for name, versions in () if json else found.items():
        console.print(f"[bold]{name}[/bold]", highlight=False)
        console.print(table_of(versions), highlight=False)


def is_current(root: Path, version: AdapterVersion) -> bool:
    """Whether it is what serves with the model that it was learned on."""
    store = AdapterStore(root)
    store.bind(version.manifest.base_digest)
    current = store.current(version.manifest.adapter)
    return current is not None and current.manifest.version == version.manifest.version


def table_of(found: list[tuple[AdapterVersion, bool]]) -> Table:
    table = Table("version", "", "model", "made", "after", "feedback", "size", box=None, header_style="dim")
    for version, current in found:
        manifest = version.manifest
        table.add_row(
            manifest.version,
            "[green]serves[/green]" if current else "",
            manifest.base_model,
            f"{manifest.created.astimezone():%Y-%m-%d %H:%M}",
            manifest.parent or "",
            str(len(manifest.feedback)),
            f"{sum(file.size for file in manifest.files.values()) / MIB:.1f} MiB",
        )
    return table
