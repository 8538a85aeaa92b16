"""Puts an archive's contents into a data folder: read and checked whole beside the old data, then swapped in."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from supervisor.backup.contents import LOGS, MODELS, OLLAMA_RECORD, REPLACED
from supervisor.backup.create import accessible, saving
from supervisor.backup.databases import journal_schema
from supervisor.backup.destination import give_to_owner
from supervisor.backup.manifest import Manifest, ModelReference, check_schema
from supervisor.backup.models import missing
from supervisor.backup.read import Step, read_archive
from supervisor.backup.seal import Source
from supervisor.backup.swap import Swap, check_mounts, finish, finish_restore, fresh_folder, in_place, swap
from supervisor.errors import BackupError
from supervisor.settings.datadir import DataDir


@dataclass(frozen=True)
class Restored:
    """``aside``: where the data is that was there before. ``missing``: models that a start will have to fetch."""

    manifest: Manifest
    aside: Path | None
    missing: tuple[ModelReference, ...]


def verify(source: Source, step: Step) -> Manifest:
    """Read it all as a restore would. Raises BrokenArchive, and BackupError when a newer clawlama wrote it."""
    return read_archive(source, None, step)


def restore(source: Source, data: DataDir, step: Step, *, replace: bool, models: Path | None = None) -> Restored:
    """The folder holds its old data until all of the archive is there and checked, and the new from then on.

    ``models`` is Ollama's folder, where it is not the one in the data folder. Raises BackupError (BrokenArchive for a
    bad archive) with the old data untouched, AlreadyRunning while a clawlama runs in the folder.
    """
    _make(data)
    finish_restore(data.root)
    with data.locked(), saving(data):
        finish(data.root)
        there = in_place(data.root)
        if there - {MODELS, LOGS} and not replace:
            raise BackupError(
                f"{data.root} holds data ({', '.join(sorted(there)[:4])}, …); add --replace to move it aside, "
                "or restore into another folder with --into"
            )
        manifest = _laid_out(source, data, step)
        plan = _plan(data.root, manifest, there)
        try:
            check_mounts(data.root, {*plan.out, *plan.into})
        except BackupError:
            finish(data.root)  # drops what was laid out
            raise
        aside = swap(data.root, plan)
    return Restored(manifest, aside, missing(manifest.about.models, models or data.root / MODELS))


def _make(data: DataDir) -> None:
    try:
        data.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        accessible(data)
        give_to_owner(data.run, data.root)
    except OSError as exc:
        raise BackupError(f"{exc.filename} cannot be made: {exc.strerror}; make it writable, or use --into") from exc


def _laid_out(source: Source, data: DataDir, step: Step) -> Manifest:
    """The archive's contents in the fresh folder; nothing of them stays when they are not as they should be."""
    fresh = fresh_folder(data.root)
    try:
        manifest = read_archive(source, fresh, step)
        journal = fresh / data.journal.name
        if journal.is_file():
            check_schema(journal_schema(journal))
    except OSError as exc:
        finish(data.root)
        raise BackupError(
            f"{exc.filename or fresh} cannot be written: {exc.strerror}; the old data is untouched: "
            "make room, or restore into another folder with --into"
        ) from exc
    except BackupError:
        finish(data.root)
        raise
    return manifest


def _plan(root: Path, manifest: Manifest, there: set[str]) -> Swap:
    """What we made in Ollama's store is recorded for that store: with its models it comes, without them it stays."""
    into = {entry.name for entry in manifest.entries if "/" not in entry.name}
    stays = {name for name in (MODELS, LOGS) if name not in into}
    if MODELS not in into and OLLAMA_RECORD in there:
        stays.add(OLLAMA_RECORD)
    aside = f"{REPLACED}{datetime.now(UTC):%Y%m%d-%H%M%S}"
    while os.path.lexists(root / aside):
        aside += "-again"
    return Swap(aside=aside, out=tuple(sorted(there - stays)), into=tuple(sorted(into - stays)))
