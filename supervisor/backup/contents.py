"""What is worth keeping below the data folder: all but what is named here, so a new feature's files are kept too."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

RESTORING = ".restore"  # see swap
REPLACED = "replaced-"  # what a restore moved aside: a folder of this name and a moment
BACKUPS, PACKS, MODELS, LOGS = "backups", "packs", "ollama", "logs"
OLLAMA_RECORD = "ollama-tags.json"  # what we made in Ollama's store: see engines.ollama.record

BY_HAND, SCHEDULED = "clawlama-", "clawlama-auto-"  # how archives are named that are not given a name
PASSING = {"run", "lessons", "publish", BACKUPS, PACKS, RESTORING, "lost+found"}
"""Of this moment, made again when needed, or backups themselves. Nothing of it is ever saved or replaced."""

CACHES = {"home/.cache", "home/.npm"} | {
    f"openclaw/{name}" for name in ("cache", "tmp", "state/cache", "state/tmp", "home/.cache", "home/.npm")
}
UNFINISHED = ".staging"  # an adapter version in the making, or on its way out
PEOPLES = ("workspace/", "home/", "openclaw/home/")
"""Here a file that cannot be saved is reported, elsewhere it is an error."""

Kind = Literal["file", "folder", "link", "other"]


@dataclass(frozen=True)
class Wanted:
    """What may come along."""

    models: bool = False
    logs: bool = False

    def takes(self, name: str) -> bool:
        """Whether ``name``, relative to the data folder, belongs into an archive, as far as its place says."""
        top, *_ = name.split("/", 1)
        if top in PASSING or top.startswith(REPLACED) or name in CACHES:
            return False
        if top in {MODELS, LOGS}:
            return self.models if top == MODELS else self.logs
        return not (top == "adapters" and PurePosixPath(name).name == UNFINISHED)


@dataclass(frozen=True)
class Found:
    name: str  # relative to the data folder
    path: Path
    kind: Kind
    size: int


def walk(root: Path, wanted: Wanted) -> Iterator[Found]:
    """Everything wanted, a folder before what it holds. What vanishes meanwhile is left out."""
    yield from _walk(root, "", wanted)


def _walk(folder: Path, prefix: str, wanted: Wanted) -> Iterator[Found]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: (entry.name == "manifest.json", entry.name))
    except (FileNotFoundError, NotADirectoryError, PermissionError):  # the last is the business of who reads it
        return
    for entry in entries:  # a version's manifest last, as it was written: what has one is whole
        name = f"{prefix}{entry.name}"
        if not wanted.takes(name):
            continue
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        except PermissionError:
            yield Found(name, Path(entry.path), "other", 0)
            continue
        found = Found(name, Path(entry.path), kind_of(status.st_mode), status.st_size)
        yield found
        if found.kind == "folder":
            yield from _walk(found.path, f"{name}/", wanted)


def kind_of(mode: int) -> Kind:
    kinds: dict[int, Kind] = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}
    return kinds.get(stat.S_IFMT(mode), "other")


def name_problem(name: str) -> str | None:
    """Why a name may not stand in an archive; None when it may."""
    try:
        parts = [part.encode() for part in name.split("/")]
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    if any(part in {b"", b".", b".."} for part in parts):
        return "its name is not a plain path below the data folder"
    if any(ord(sign) < 32 or ord(sign) == 127 for sign in name):
        return "its name has control characters"
    if any(len(part) > 255 for part in parts) or len(name) > 4000:
        return "its name is too long"
    return None


def link_problem(name: str, target: str) -> str | None:
    """Why a link may not stand in an archive; None when it leads to a place below the data folder.

    Steps up are allowed at its start only: there they start from real folders. After another link's name they would
    lead who knows where.
    """
    if not target or target.startswith("/"):
        return f"it links to {target!r}, out of the data folder"
    parts = [part for part in target.split("/") if part not in {"", "."}]
    up = next((index for index, part in enumerate(parts) if part != ".."), len(parts))
    if ".." in parts[up:] or up > name.count("/") or (up == name.count("/") and len(parts) == up):
        return f"it links to {target!r}, out of the data folder or to the whole of it"
    return name_problem("/".join(parts[up:])) if parts[up:] else None
