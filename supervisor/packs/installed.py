"""Packs on disk: one folder each, with a record of what must lie in it. There or not there, never half."""

import os
import shutil
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

from pydantic import ValidationError

from supervisor.packs.pack import Gives, Locked, Pack

RECORD = "pack.json"
STAGING = "staging"
DOWNLOADS = "downloads"


class Installed(Locked):
    """What lies in the folder of a pack. ``lock``: the list it was made from; ``files``: sizes in bytes."""

    name: str
    version: str
    gives: Gives
    lock: str
    files: dict[str, int]

    @property
    def size(self) -> int:
        return sum(self.files.values())


def lock_of(pack: Pack) -> str:
    """Changes with anything that the installed folder depends on."""
    return sha256(pack.model_dump_json().encode()).hexdigest()


def record_of(folder: Path) -> Installed | None:
    try:
        return Installed.model_validate_json((folder / RECORD).read_text())
    except (OSError, ValidationError, UnicodeDecodeError):
        return None


def write_record(pack: Pack, folder: Path) -> None:
    record = Installed(
        name=pack.name, version=pack.version, gives=pack.gives, lock=lock_of(pack), files=dict(sizes(folder))
    )
    with (folder / RECORD).open("w") as file:
        file.write(record.model_dump_json(indent=1))
        file.flush()
        os.fsync(file.fileno())


def sizes(folder: Path) -> Iterator[tuple[str, int]]:
    """Files and links below a folder; a link counts as what it points to."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield str(path.relative_to(folder)), path.stat().st_size


def find(pack: Pack, homes: Sequence[Path]) -> Path | None:
    """The folder of this very pack, in the first home that has it by its record."""
    return next((home / pack.folder for home in homes if is_of(pack, record_of(home / pack.folder))), None)


def is_of(pack: Pack, record: Installed | None) -> bool:
    return record is not None and record.lock == lock_of(pack)


def lost(folder: Path) -> str:
    """The first file that is missing or of another length; empty when all are as the record says."""
    record = record_of(folder)
    if record is None:
        return RECORD
    for name, size in record.files.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != size:
            return name
    return ""


def remove(folder: Path) -> None:
    """The record first: from then on it does not count as installed, however far the rest gets."""
    (folder / RECORD).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def remove_others(home: Path, pack: Pack) -> None:
    """What gave the same before: older versions, and sets of libraries for another driver."""
    for folder in home.iterdir() if home.is_dir() else ():
        record = record_of(folder)
        if record is not None and record.gives == pack.gives and folder.name != pack.folder:
            remove(folder)
