"""Adapter versions on disk: ``ROOT/<name>/vNNNN/`` and one atomic link ``current``.

A version is immutable and either whole or absent: it is filled in a staging folder, synced, and renamed into place.
``current`` may be absent, which means that the bare base model serves.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from supervisor.adapters.manifest import FileRecord, Manifest
from supervisor.errors import AdapterError

PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
NAME = re.compile(rf"{PART}(/{PART}){{0,9}}")
VERSION = re.compile(r"v[0-9]{4,9}")
STAGING = ".staging"
LINK = "current"


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

    def names(self, prefix: str = "") -> list[str]:
        """Adapters with at least one whole version whose name starts with ``prefix``."""
        found = {str(path.parent.parent.relative_to(self.root)) for path in self.root.glob("**/v*/manifest.json")}
        return sorted(name for name in found if name.startswith(prefix) and STAGING not in name.split("/"))

    def versions(self, adapter: str) -> list[AdapterVersion]:
        """Whole versions of one adapter, oldest first. AdapterError names one whose manifest does not parse."""
        return sorted(self._whole(adapter), key=lambda version: number(version.folder.name))

    def version(self, adapter: str, version: str) -> AdapterVersion:
        """One version; AdapterError when it is missing or its manifest does not parse."""
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

    def current(self, adapter: str) -> AdapterVersion | None:
        """The version that serves, or None while the bare base does."""
        link = self.home(adapter) / LINK
        try:
            target = os.readlink(link)  # noqa: PTH115 - the link's text is what we want, not a resolved path
        except FileNotFoundError:
            return None
        return self.version(adapter, target)

    def promote(self, adapter: str, version: str | None) -> None:
        """Move ``current`` in one step; None takes it away."""
        home = self.home(adapter)
        link = home / LINK
        if version is None:
            if not link.is_symlink():
                return
            link.unlink()
        else:
            self.version(adapter, version)
            fresh = home / f".{LINK}"
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(version)
            fresh.replace(link)
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

        Raises AdapterError when the version exists already: versions are never overwritten.
        """
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
        for draft in self.root.glob(f"**/.{LINK}"):
            draft.unlink(missing_ok=True)

    def delete(self, adapter: str) -> bool:
        """Drop an adapter's versions, but not adapters whose names go on from its own; False when there was none."""
        home = self.home(adapter)
        versions = [path for path in home.glob("v*") if VERSION.fullmatch(path.name)]
        if not versions:
            return False
        self.promote(adapter, None)
        for path in versions:  # moved away in one step each, so that none is seen half deleted
            path.rename(self.stage(adapter, path.name) / path.name)
        sync_folder(home)
        shutil.rmtree(home / STAGING)
        return True

    def home(self, adapter: str) -> Path:
        """The folder of one adapter; AdapterError for a name that could leave the root."""
        if not NAME.fullmatch(adapter) or any(VERSION.fullmatch(part) or part == LINK for part in adapter.split("/")):
            raise AdapterError(
                f"adapter name {adapter!r} is not usable: up to 10 parts split by '/', each of up to 100 letters, "
                f"digits, '.', '_' and '-', none like v0001 or {LINK!r}"
            )
        return self.root / adapter

    def _whole(self, adapter: str) -> Iterator[AdapterVersion]:
        for path in self.home(adapter).glob("v*/manifest.json"):
            if VERSION.fullmatch(path.parent.name):
                yield self.version(adapter, path.parent.name)


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
