"""Adding to Ollama's models folder without its server: blobs first, then the manifest, each whole or not there at all.

A death between the two leaves a blob that nobody mentions, which ``drop_unused`` or the server's own start removes.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from supervisor.adapters.store import sync_folder
from supervisor.engines.ollama.manifest import Layer
from supervisor.engines.ollama.names import ModelName
from supervisor.engines.ollama.store import NEWER, OLDER, Store, manifest_path, sha256
from supervisor.errors import StoreError

DRAFT = ".clawlama-"  # how the names of our unfinished files begin; Ollama takes none of them for a model
MODE = 0o644  # the server may be another user


def writable(store: Store) -> bool:
    """Whether we may add to this folder, as far as can be told without trying."""
    folders = [store.root, store.blobs, *(path for path in (store.root / NEWER, store.root / OLDER) if path.exists())]
    return all(os.access(folder, os.W_OK | os.X_OK) for folder in folders)


@dataclass(frozen=True)
class Shelf:
    """Adds to one store. Raises StoreError when that is not possible."""

    store: Store
    label: str  # part of the names of our unfinished files
    adding: Callable[[str], None]  # hears of each digest before its blob is there

    def draft(self) -> Path:
        """A path for an unfinished file, on the blobs' own file system."""
        return self.store.blobs / f"{DRAFT}{self.label}-{uuid4().hex[:8]}"

    def add_bytes(self, media_type: str, content: bytes) -> Layer:
        digest = sha256(content)
        target = self.store.blob(digest)
        with told(self.store):
            if not target.is_file() or target.stat().st_size != len(content):
                self.adding(digest)
                replace(target, content, self.draft())
        return Layer(media_type=media_type, digest=digest, size=len(content))

    def add_copy(self, media_type: str, source: Path) -> Layer:
        """A copy of a file of ours as a blob."""
        fresh = self.draft()
        try:
            with told(self.store):
                shutil.copyfile(source, fresh)
            return self.add_draft(media_type, fresh)
        finally:
            fresh.unlink(missing_ok=True)

    def add_draft(self, media_type: str, fresh: Path) -> Layer:
        """Make a finished draft a blob, without copying it."""
        with told(self.store):
            with fresh.open("rb") as file:
                digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
                os.fchmod(file.fileno(), MODE)
                os.fsync(file.fileno())
            size = fresh.stat().st_size
            self.adding(digest)
            fresh.replace(self.store.blob(digest))
            sync_folder(self.store.blobs)
        return Layer(media_type=media_type, digest=digest, size=size)

    def put_manifest(self, name: ModelName, content: bytes) -> None:
        """Make ``name`` this manifest in one step, whatever it was before."""
        newer = manifest_path(self.store.root, NEWER, name)
        fresh = self.store.root / f"{DRAFT}{self.label}-{uuid4().hex[:8]}"
        with told(self.store):
            if newer.is_symlink() or newer.is_file():  # it would win over an entry in the older place
                layer = self.add_bytes("", content)
                fresh.symlink_to(os.path.relpath(self.store.blob(layer.digest), newer.parent))
                fresh.replace(newer)
                sync_folder(newer.parent)
            else:
                target = manifest_path(self.store.root, OLDER, name)
                target.parent.mkdir(parents=True, exist_ok=True)
                replace(target, content, fresh)

    def drop_drafts(self) -> None:
        """Also what a program that we gave such a path was writing beside it."""
        for folder in (self.store.root, self.store.blobs):
            for path in folder.glob(f"*{DRAFT}{self.label}-*"):
                path.unlink(missing_ok=True)


def drop_unused(store: Store, digests: set[str]) -> None:
    """Remove those of these blobs that no manifest mentions. None, when a manifest is broken: it may need any."""
    try:
        used = store.used()
    except StoreError:
        return
    for digest in digests:
        path = store.blob(digest)
        if path.name not in used:
            path.unlink(missing_ok=True)


def replace(target: Path, content: bytes, fresh: Path) -> None:
    try:
        with fresh.open("xb") as file:
            file.write(content)
            os.fchmod(file.fileno(), MODE)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(target)
        sync_folder(target.parent)
    finally:
        fresh.unlink(missing_ok=True)


@contextmanager
def told(store: Store) -> Iterator[None]:
    """An OSError as StoreError."""
    try:
        yield
    except OSError as exc:
        raise StoreError(
            f"{exc.filename or store.root} cannot be written ({exc.strerror}); Ollama's models folder needs free space "
            "and the right for this user to write there, or CLAWLAMA_PUBLISH=create"
        ) from exc
