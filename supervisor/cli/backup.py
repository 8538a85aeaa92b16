"""clawlama backup, verify and restore: the data folder as one file, and back."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import psutil
import typer
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from supervisor.backup.contents import BACKUPS, BY_HAND, SCHEDULED, Wanted
from supervisor.backup.create import Made, Options, write_archive
from supervisor.backup.manifest import Manifest, ModelReference
from supervisor.backup.restore import Restored
from supervisor.backup.restore import restore as put_back
from supervisor.backup.restore import verify as read_whole
from supervisor.backup.save import save
from supervisor.cli.options import AsJson, Data
from supervisor.cli.show import as_json, errors
from supervisor.errors import BackupError, SettingsError
from supervisor.services.priority import step_back
from supervisor.settings.datadir import DataDir
from supervisor.settings.sources import data_folder, load_settings

STREAM = Path("-")
SHOWN = 5  # remarks on a terminal; all of them are in the archive and in --json
MIB, GB = 2**20, 1e9

File = Annotated[Path, typer.Argument(metavar="FILE", help="An archive, or - for standard input.", show_default=False)]


def backup(
    to: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE|DIR|-]", help="Unset: backups/ in the data folder (CLAWLAMA_BACKUP_DIR)."),
    ] = None,
    models: Annotated[bool, typer.Option(help="Save Ollama's models too, not only their names.")] = False,
    logs: Annotated[bool, typer.Option(help="Save the logs too.")] = False,
    scheduled: Annotated[bool, typer.Option("--scheduled", hidden=True)] = False,
    data: Data = None,
    json: AsJson = False,
) -> None:
    """Save everything worth keeping into one file, while clawlama runs or not.

    The file holds your chats and your tokens, so only you may read it. An existing file is never overwritten.
    """
    settings = load_settings(data=data)
    folder = DataDir(settings.data.absolute())
    options = Options(Wanted(models, logs), settings.ollama_models)
    if scheduled:
        take_what_is_left()
        options = replace(options, threads=0)
    if to == STREAM:
        made = to_stream(folder, options)
        report(None, made, json=json)
        return
    home = settings.backup_dir or folder.root / BACKUPS
    with bar("saving") as progress:
        saved = save(folder, to, options, progress, home=home, prefix=SCHEDULED if scheduled else BY_HAND)
    if scheduled:
        read_back(saved.path)
    report(saved.path, saved.made, json=json)


def verify(file: File, json: AsJson = False) -> None:
    """Read an archive and check all of it: each file against its checksum, and every bit of the archive itself."""
    with opened(file) as source, reading("checking", file) as step:
        manifest = read_whole(source, step)
    if json:
        as_json(summary(manifest))
        return
    say(f"[bold]whole[/bold]: {described(manifest)}")


def restore(
    file: File,
    into: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Data folder to restore (CLAWLAMA_DATA).", show_default=False)
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Move data that is there aside.")] = False,
    json: AsJson = False,
) -> None:
    """Check an archive, then put its contents in place of a data folder's: all of it, or nothing.

    clawlama must not be running there. What was there before is kept beside it.
    """
    data = DataDir((into or data_folder()).absolute())
    with opened(file) as source, reading("restoring", file) as step:
        done = put_back(source, data, step, replace=replace, models=models_folder(data.root))
    if json:
        missing = [one.model_dump() for one in done.missing]
        as_json({**summary(done.manifest), "into": data.root, "aside": done.aside, "missing_models": missing})
        return
    tell_restored(done, data.root)


def take_what_is_left() -> None:
    """Take only what nobody else wants of processor and disk, for the rest of this process."""
    step_back(os.getpid(), 19)
    psutil.Process().ionice(psutil.IOPRIO_CLASS_IDLE)


def read_back(path: Path) -> None:
    """Older ones go when this one is there, so it had better be readable."""
    try:
        with opened(path) as source:
            read_whole(source, lambda _read: None)
    except BackupError:
        path.unlink()
        raise


def to_stream(data: DataDir, options: Options) -> Made:
    if sys.stdout.isatty():
        raise BackupError("an archive is nothing to read on a terminal; send it somewhere: clawlama backup - > FILE")
    try:
        made = write_archive(data, sys.stdout.buffer, options, lambda _done, _total: None)
        sys.stdout.buffer.flush()
    except OSError as exc:
        raise BackupError(f"standard output: {exc.strerror}; what was written of the archive is of no use") from exc
    return made


def models_folder(root: Path) -> Path | None:
    """Where Ollama's models lie; settings that are wrong just now must not keep anybody from restoring others."""
    try:
        return load_settings(data=root).ollama_models
    except SettingsError:
        return None


@contextmanager
def opened(file: Path) -> Iterator[BinaryIO]:
    if file == STREAM:
        yield sys.stdin.buffer
        return
    try:
        source = file.open("rb")
    except OSError as exc:
        raise BackupError(f"{file} cannot be read: {exc.strerror}") from exc
    with source:
        yield source


@contextmanager
def bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Draws on standard error; call what it yields with bytes done and bytes in all."""
    columns = (TextColumn("  {task.description}"), BarColumn(bar_width=30), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def reading(what: str, file: Path) -> Iterator[Callable[[int], None]]:
    total = 0 if file == STREAM else file.stat().st_size
    done = 0
    with bar(what) as progress:

        def step(read: int) -> None:
            nonlocal done
            done += read
            progress(done, max(total, done))

        yield step


def report(path: Path | None, made: Made, *, json: bool) -> None:
    """On standard error when the archive itself went to standard output."""
    manifest = made.manifest
    if json:
        told = {**summary(manifest), "path": path, "size": made.size}
        as_json(told, stderr=path is None)
        return
    where = "to standard output" if path is None else escape(str(path))
    say(f"[bold]saved[/bold] {where}: {described(manifest)}, packed {size(made.size)}")
    say("it holds your chats and tokens: " + ("keep it safe" if path is None else "only you may read it (mode 0600)"))
    if manifest.about.models and not manifest.about.with_models:
        say(f"models are in it by name only: {names(manifest.about.models)}")
    for remark in manifest.remarks[:SHOWN]:
        say(f"[yellow]{escape(remark.name)}[/yellow]: {escape(remark.text)}")
    if len(manifest.remarks) > SHOWN:
        say(f"and {len(manifest.remarks) - SHOWN} more remarks, in the archive's manifest.json and with --json")


def tell_restored(done: Restored, root: Path) -> None:
    say(f"[bold]restored[/bold] {escape(str(root))}: {described(done.manifest)}")
    if done.aside is not None:
        say(f"what was there before is in {escape(str(done.aside))}; remove it when you are content")
    if done.missing:
        say(f"not here, so the next start pulls what it serves of: {names(done.missing)}")
    if done.manifest.about.packs:
        say("GPU libraries are downloaded anew where they are needed")


def described(manifest: Manifest) -> str:
    about = manifest.about
    files = sum(entry.kind == "file" for entry in manifest.entries)
    made = about.created.astimezone()
    return f"{files} files, {size(data_size(manifest))}, of {made:%Y-%m-%d %H:%M} by clawlama {escape(about.clawlama)}"


def summary(manifest: Manifest) -> dict[str, Any]:
    about = manifest.about.model_dump(mode="json")
    files = sum(entry.kind == "file" for entry in manifest.entries)
    remarks = [remark.model_dump() for remark in manifest.remarks]
    return {**about, "files": files, "data_size": data_size(manifest), "remarks": remarks}


def data_size(manifest: Manifest) -> int:
    return sum(entry.size for entry in manifest.entries)


def names(models: tuple[ModelReference, ...]) -> str:
    return escape(", ".join(f"{one.name} ({size(one.size)})" if one.size else one.name for one in models))


def size(count: int) -> str:
    return f"{count / GB:.1f} GB" if count >= GB else f"{count / MIB:.1f} MiB"


def say(line: str) -> None:
    errors.print(line, highlight=False, soft_wrap=True)
