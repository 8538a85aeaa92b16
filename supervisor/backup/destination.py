"""Where an archive goes: a file that is whole or not there, never in another's place."""

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from supervisor.adapters.store import sync_folder
from supervisor.errors import BackupError

SUFFIX = ".tar.zst"
PART = ".part"
MIB = 2**20
RESERVE = 64 * MIB  # bytes that stay free on a disk that we write to


def archive_path(to: Path | None, default: Path, moment: datetime, prefix: str) -> Path:
    """The file to write: ``to`` itself, or a name by the moment when it is a folder. BackupError when it is taken."""
    folder = default if to is None else to
    path = folder
    if to is None or to.is_dir():
        path = folder / f"{prefix}{moment:%Y%m%d-%H%M%S}{SUFFIX}"
    if os.path.lexists(path):
        raise BackupError(f"{path} exists already and is never overwritten; name another file, or remove it")
    return path


def check_room(folder: Path, size: int, remedy: str) -> None:
    """BackupError when ``size`` bytes would not leave the disk its reserve."""
    free = shutil.disk_usage(folder).free
    if size > free - RESERVE:
        raise BackupError(
            f"the disk of {folder} has {free // MIB} MiB free, up to {size // MIB} MiB are needed, and "
            f"{RESERVE // MIB} MiB stay free for what runs; {remedy}"
        )


@contextmanager
def new_file(path: Path, owner: Path) -> Iterator[BinaryIO]:
    """The file appears under its name, private to its owner, when the block ends well; else nothing is left.

    Raises BackupError when it cannot be written. Made by root, it belongs to whoever owns ``owner``.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PART}")
    try:
        _make_folder(path.parent, owner)
        with open(part, "xb", buffering=0, opener=private) as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # tells it from what one leaves behind who was killed
            drop_parts(path.parent)
            try:
                yield file
                os.fsync(file.fileno())
                give_to_owner(part, owner)
                _name(part, path)
            finally:
                part.unlink(missing_ok=True)
        sync_folder(path.parent)
    except OSError as exc:
        raise BackupError(
            f"{path} cannot be written: {exc.strerror}; no part of it was kept: make room, or choose another place"
        ) from exc


def drop_parts(folder: Path) -> None:
    """Remove what backups into this folder left that were killed."""
    for part in folder.glob(f".*{SUFFIX}.*{PART}"):
        try:
            with part.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                part.unlink(missing_ok=True)
        except OSError:  # in use, gone, or somebody else's
            continue


def give_to_owner(path: Path, owner: Path) -> None:
    """What root makes for somebody's data folder belongs to that one: `docker exec` is root where its user is not."""
    if os.geteuid() == 0:
        status = owner.stat()
        os.chown(path, status.st_uid, status.st_gid, follow_symlinks=False)


def _make_folder(folder: Path, owner: Path) -> None:
    if not folder.is_dir():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        give_to_owner(folder, owner)


def private(path: str, flags: int) -> int:
    """For ``open``: a new file is its owner's alone from the first byte on."""
    return os.open(path, flags, 0o600)


def _name(part: Path, path: Path) -> None:
    """Give the file its name unless another has it meanwhile."""
    try:
        path.hardlink_to(part)
    except FileExistsError as exc:
        raise BackupError(f"{path} exists by now and is never overwritten; name another file, or remove it") from exc
    except OSError:  # a file system without links, such as exFAT or some network shares
        if os.path.lexists(path):
            raise BackupError(f"{path} exists by now and is never overwritten; name another file") from None
        part.rename(path)
