"""Adapter versions on disk: ``ROOT/<name>/vNNNN/`` and, for each base model, one atomic link ``current-<digest>``.

A version is immutable and either whole or absent: it is filled in a staging folder, synced, and renamed into place.
It works on the base model that it was learned on and on no other, so a store that was told which model serves
(``bind``) shows only what belongs to it. Numbers are shared by all bases: a version's name means one thing for ever.
A link may be absent, which means that the bare base model serves.
"""

import hashlib
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from supervisor.adapters.manifest import FileRecord, Manifest
from supervisor.errors import AdapterError

PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
NAME = re.compile(rf"{PART}(/{PART}){{0,9}}")
VERSION = re.compile(r"v[0-9]{4,9}")
STAGING = ".staging"
LINK = "current"  # an older store has one such link, for whatever base its target was learned on
LINKS = re.compile(rf"{LINK}(-[0-9a-f]{{1,12}})?")


@dataclass(frozen=True)
class AdapterVersion:
    """A whole version: its manifest and the folder that holds the files it names."""

    manifest: Manifest
    folder: Path

    @property
    def gguf(self) -> Path:
        return self.folder / "adapter.gguf"


class AdapterStore:
    """All adapters below one root folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.base: str | None = None

    def bind(self, base: str) -> None:
        """From now on, see only what was learned on the base model with this digest (``sha256:…`` of its GGUF)."""
        self.base = base

    def check_base(self, serving: str) -> None:
        """AdapterError when another base model serves than the one whose versions this store shows."""
        if self.base is not None and serving != self.base:
            raise AdapterError(
                f"the model that serves ({short(serving)}) is not the one that clawlama started with "
                f"({short(self.base)}): it was pulled or replaced meanwhile; restart clawlama, then teach it"
            )

    def names(self, prefix: str = "") -> list[str]:
        """Adapters with at least one whole version whose name starts with ``prefix``."""
        found = {str(path.parent.parent.relative_to(self.root)) for path in self.root.glob("**/v*/manifest.json")}
        return sorted(name for name in found if name.startswith(prefix) and STAGING not in name.split("/"))

    def versions(self, adapter: str) -> list[AdapterVersion]:
        """Whole versions for the bound base, oldest first. AdapterError names one whose manifest does not parse."""
        return [one for one in self._whole(adapter) if self._fits(one)]

    def of_other_bases(self, adapter: str) -> list[AdapterVersion]:
        """Whole versions that wait for another base model to serve again, oldest first."""
        return [one for one in self._whole(adapter) if not self._fits(one)]

    def version(self, adapter: str, version: str) -> AdapterVersion:
        """One version; AdapterError when it is missing, does not parse or belongs to another base than the bound."""
        found = self._read(adapter, version)
        if not self._fits(found):
            other = found.manifest
            raise AdapterError(
                f"{adapter} {version} was learned on {other.base_model} ({short(other.base_digest)}), "
                "not on the model that serves; set CLAWLAMA_MODEL back to use it"
            )
        return found

    def current(self, adapter: str) -> AdapterVersion | None:
        """The version that serves, or None while the bare base does. Not bound: the one that was promoted last."""
        home = self.home(adapter)
        if self.base is None:
            latest = max(links(home), key=lambda path: (path.lstat().st_mtime_ns, path.name), default=None)
            return None if latest is None else self._read(adapter, str(latest.readlink()))
        own = home / link_name(self.base)
        if own.is_symlink():
            return self.version(adapter, str(own.readlink()))
        older = self._older(adapter)
        return older if older is not None and self._fits(older) else None

    def promote(self, adapter: str, version: str | None) -> None:
        """Move the base's link in one step; None takes it away. Other bases keep theirs, unless none is bound."""
        home = self.home(adapter)
        chosen = None if version is None else self.version(adapter, version)
        self._migrate(adapter)
        if chosen is not None:
            point(home / link_name(chosen.manifest.base_digest), chosen.folder.name)
        elif self.base is not None:
            (home / link_name(self.base)).unlink(missing_ok=True)
        else:
            for link in links(home):
                link.unlink()
        if home.is_dir():
            sync_folder(home)

    def next_version(self, adapter: str) -> str:
        """One above the highest there is, serving or not: a version that was never promoted keeps its number."""
        taken = [number(path.name) for path in self.home(adapter).glob("v*") if VERSION.fullmatch(path.name)]
        return f"v{max(taken, default=0) + 1:04d}"

    def stage(self, adapter: str, version: str) -> Path:
        """An empty folder to fill; leftovers of an earlier attempt at the same version are dropped."""
        folder = self.home(adapter) / STAGING / version
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def commit(self, staged: Path, manifest: Manifest) -> AdapterVersion:
        """Seal a staged folder: sync its files, write the manifest last, rename into place.

        Raises AdapterError when the version exists already (versions are never overwritten) or is of another base.
        """
        self.check_base(manifest.base_digest)
        home = self.home(manifest.adapter)
        folder = home / manifest.version
        if folder.exists():
            raise AdapterError(f"{manifest.adapter} {manifest.version} exists already and is never overwritten")
        for path in staged.iterdir():
            sync_file(path)
        sealed = staged / "manifest.json"
        sealed.write_text(manifest.model_dump_json(indent=2) + "\n")
        sync_file(sealed)
        sync_folder(staged)
        staged.rename(folder)
        for place in (home, *home.parents):  # a new adapter's folders are new entries themselves
            sync_folder(place)
            if place == self.root:
                break
        return AdapterVersion(manifest, folder)

    def drop_unfinished(self) -> None:
        """Remove what was being staged or deleted when we died. Only while nobody stages anything."""
        for staging in list(self.root.glob(f"**/{STAGING}")):
            shutil.rmtree(staging, ignore_errors=True)
        for draft in self.root.glob(f"**/.{LINK}*"):
            draft.unlink(missing_ok=True)

    def delete(self, adapter: str) -> bool:
        """Drop an adapter's versions, but not adapters whose names go on from its own; False when there was none."""
        home = self.home(adapter)
        versions = [path for path in home.glob("v*") if VERSION.fullmatch(path.name)]
        if not versions:
            return False
        for link in links(home):
            link.unlink()
        for path in versions:  # moved away in one step each, so that none is seen half deleted
            path.rename(self.stage(adapter, path.name) / path.name)
        sync_folder(home)
        shutil.rmtree(home / STAGING)
        return True

    def home(self, adapter: str) -> Path:
        """The folder of one adapter; AdapterError for a name that could leave the root."""
        if not NAME.fullmatch(adapter) or any(
            VERSION.fullmatch(part) or LINKS.fullmatch(part) for part in adapter.split("/")
        ):
            raise AdapterError(
                f"adapter name {adapter!r} is not usable: up to 10 parts split by '/', each of up to 100 letters, "
                f"digits, '.', '_' and '-', none like v0001 or {LINK!r}"
            )
        return self.root / adapter

    def _fits(self, version: AdapterVersion) -> bool:
        return self.base is None or version.manifest.base_digest == self.base

    def _whole(self, adapter: str) -> list[AdapterVersion]:
        """Of every base, oldest first."""
        names = {path.parent.name for path in self.home(adapter).glob("v*/manifest.json")}
        return [self._read(adapter, name) for name in sorted(filter(VERSION.fullmatch, names), key=number)]

    def _read(self, adapter: str, version: str) -> AdapterVersion:
        if not VERSION.fullmatch(version):
            raise AdapterError(f"version {version!r} of {adapter!r} is no version name; they look like v0001")
        folder = self.home(adapter) / version
        try:
            text = (folder / "manifest.json").read_text()
            return AdapterVersion(Manifest.model_validate_json(text), folder)
        except FileNotFoundError as exc:
            raise AdapterError(f"adapter {adapter!r} has no version {version!r}") from exc
        except ValidationError as exc:
            raise AdapterError(f"{folder / 'manifest.json'} does not parse: {exc.error_count()} errors") from exc

    def _older(self, adapter: str) -> AdapterVersion | None:
        """What the one link of an older store points at."""
        link = self.home(adapter) / LINK
        return self._read(adapter, str(link.readlink())) if link.is_symlink() else None

    def _migrate(self, adapter: str) -> None:
        """Give an older store's link its base's name. The new one is there before the old one goes, and wins."""
        link = self.home(adapter) / LINK
        if not link.is_symlink():
            return
        if (link / "manifest.json").is_file():
            older = self._read(adapter, str(link.readlink()))
            own = self.home(adapter) / link_name(older.manifest.base_digest)
            if not own.is_symlink():
                point(own, older.folder.name)
        link.unlink()


def links(home: Path) -> list[Path]:
    """Of every base, and an older store's."""
    return [path for path in home.glob(f"{LINK}*") if LINKS.fullmatch(path.name) and path.is_symlink()]


def link_name(base: str) -> str:
    return f"{LINK}-{base.removeprefix('sha256:')[:12]}"


def short(digest: str) -> str:
    """Enough of a digest for a person to tell two apart."""
    return f"{digest[:19]}…"


def point(link: Path, target: str) -> None:
    """Make a symbolic link say ``target``, in one step."""
    fresh = link.with_name(f".{link.name}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(link)


def number(version: str) -> int:
    return int(version[1:])


def file_records(folder: Path) -> dict[str, FileRecord]:
    """Size and SHA-256 of every file directly in ``folder``."""
    return {path.name: file_record(path) for path in sorted(folder.iterdir()) if path.is_file()}


def file_record(path: Path) -> FileRecord:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileRecord(size=path.stat().st_size, sha256=digest)


def base_name(adapter: str) -> str:
    """``NAME-latest`` and ``NAME-init`` are older ways to write NAME."""
    return adapter.removesuffix("-latest").removesuffix("-init")


def sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
