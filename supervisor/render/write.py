"""Puts rendered files on disk: whole or not at all, only what changed, never over somebody's edit."""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from supervisor.errors import RenderError

log: structlog.stdlib.BoundLogger = structlog.get_logger()

Record = dict[str, list[str]]
"""File, relative to the record's folder, to the SHA-256 of every text we ever gave it."""


@dataclass(frozen=True)
class RenderedFile:
    path: Path
    text: str
    theirs: bool = False  # people own it: an edit stays; else an edit is set aside as NAME.edited
    mode: int = 0o600


def write_files(files: Sequence[RenderedFile], *, record: Path) -> tuple[Path, ...]:
    """Write what differs and return the paths that changed. RenderError names a file that cannot be written.

    ``record`` remembers what we wrote, which is how an edit is told from an old version of ours.
    """
    known = _load(record)
    wanted = [file for file in files if _must_write(file, known.get(_key(file.path, record), []))]
    if not wanted:
        return ()
    for file in wanted:
        _set_edit_aside(file, known.get(_key(file.path, record), []))
        hashes = known.setdefault(_key(file.path, record), [])
        hashes[:] = [*(h for h in hashes if h != _sha256(file.text)), _sha256(file.text)]
    # The record goes first: cut short between the two, the old file is still known as ours.
    write_atomically(record, json.dumps(known, indent=2) + "\n")
    for file in wanted:
        write_atomically(file.path, file.text, mode=file.mode)
    return tuple(file.path for file in wanted)


def write_atomically(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Replace ``path`` by a whole file that has reached the disk. RenderError when that is not possible."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                os.fchmod(file.fileno(), mode)
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(partial).replace(path)
        except BaseException:
            Path(partial).unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)
    except OSError as exc:
        raise RenderError(f"{path} cannot be written: {exc.strerror}; make its folder writable for this user") from exc


def _must_write(file: RenderedFile, known: Sequence[str]) -> bool:
    present = _read(file.path)
    if present is None:
        return True
    if present == file.text:
        return not file.theirs and file.path.stat().st_mode & 0o777 != file.mode
    return not file.theirs or _sha256(present) in known


def _set_edit_aside(file: RenderedFile, known: Sequence[str]) -> None:
    present = _read(file.path)
    if present is None or present == file.text or _sha256(present) in known:
        return
    aside = file.path.with_name(f"{file.path.name}.edited")
    write_atomically(aside, present)
    log.warning("file was edited by hand; it is rendered from the settings, so the edit was set aside", file=str(aside))


def _load(record: Path) -> Record:
    text = _read(record)
    if text is None:
        return {}
    try:
        parsed = json.loads(text)
    except json.JSONDecodeError:
        parsed = None
    if not isinstance(parsed, Mapping):
        log.warning("record of written files is not readable; starting a new one", file=str(record))
        return {}
    return {str(key): [str(value) for value in values] for key, values in parsed.items()}


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise RenderError(f"{path} cannot be read: {exc.strerror}; check what lies there") from exc


def _key(path: Path, record: Path) -> str:
    """Relative, so that a data folder that moved still knows its files."""
    return os.path.relpath(path, record.parent)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", errors="surrogateescape")).hexdigest()


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
