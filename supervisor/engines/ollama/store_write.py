"""Adding to Ollama's models folder without its server: blobs first, then the manifest, each whole or not there at all.

A death between the two leaves a blob that nobody mentions, which ``drop_unused`` or the server's own start removes.
"""

import hashlib
import os
from pathlib import Path
from uuid import uuid4

from supervisor.engines.ollama.manifest import Layer
from supervisor.engines.ollama.names import ModelName
from supervisor.engines.ollama.store import NEWER, OLDER, Store, manifest_path, sha256
from supervisor.errors import StoreError

DRAFT = ".clawlama-"  # how the names of our unfinished files begin; Ollama takes none of them for a model
MODE = 0o644  # the server may be another user
CHUNK = 2**20


def writable(store: Store) -> bool:
    """Whether we may add to this folder, as far as can be told without trying."""
    folders = [store.root, store.blobs, *(path for path in (store.root / NEWER, store.root / OLDER) if path.exists())]
    return all(os.access(folder, os.W_OK | os.X_OK) for folder in folders)


def draft(store: Store, label: str) -> Path:
    """A path for an unfinished file, on the blobs' own file system."""
    return store.blobs / f"{DRAFT}{label}-{uuid4().hex[:8]}"


def drop_drafts(store: Store, label: str) -> None:
    """Also what a program that we gave such a path was writing beside it."""
    for folder in (store.root, store.blobs):
        for path in folder.glob(f"*{DRAFT}{label}-*"):
            path.unlink(missing_ok=True)


def add_bytes(store: Store, media_type: str, content: bytes, label: str) -> Layer:
    digest = sha256(content)
    target = store.blob(digest)
    if not target.is_file() or target.stat().st_size != len(content):
        replace(target, content, draft(store, label))
    return Layer(media_type=media_type, digest=digest, size=len(content))


def add_copy(store: Store, media_type: str, source: Path, label: str) -> Layer:
    """A copy of a file of ours as a blob; it is hashed on the way."""
    fresh = draft(store, label)
    try:
        counted = hashlib.sha256()
        with source.open("rb") as read, fresh.open("xb") as write:
            while chunk := read.read(CHUNK):
                counted.update(chunk)
                write.write(chunk)
            write.flush()
            os.fsync(write.fileno())
        return adopt(store, media_type, fresh, f"sha256:{counted.hexdigest()}")
    except OSError as exc:
        raise cannot_write(store, exc) from exc
    finally:
        fresh.unlink(missing_ok=True)


def add_draft(store: Store, media_type: str, fresh: Path) -> Layer:
    """Make a finished draft a blob, without copying it."""
    try:
        with fresh.open("rb") as file:
            digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
            os.fsync(file.fileno())
        return adopt(store, media_type, fresh, digest)
    except OSError as exc:
        raise cannot_write(store, exc) from exc


def adopt(store: Store, media_type: str, fresh: Path, digest: str) -> Layer:
    fresh.chmod(MODE)
    size = fresh.stat().st_size
    fresh.replace(store.blob(digest))
    sync_folder(store.blobs)
    return Layer(media_type=media_type, digest=digest, size=size)


def put_manifest(store: Store, name: ModelName, content: bytes, label: str) -> str:
    """Make ``name`` this manifest in one step, whatever it was before; its digest."""
    newer = manifest_path(store.root, NEWER, name)
    try:
        if newer.is_symlink() or newer.is_file():  # it would win over an entry in the older place
            layer = add_bytes(store, "", content, label)
            fresh = store.root / f"{DRAFT}{label}-{uuid4().hex[:8]}"
            fresh.symlink_to(os.path.relpath(store.blob(layer.digest), newer.parent))
            fresh.replace(newer)
            sync_folder(newer.parent)
        else:
            target = manifest_path(store.root, OLDER, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            replace(target, content, store.root / f"{DRAFT}{label}-{uuid4().hex[:8]}")
    except OSError as exc:
        raise cannot_write(store, exc) from exc
    return sha256(content)


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


def sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def cannot_write(store: Store, problem: OSError) -> StoreError:
    return StoreError(
        f"{problem.filename or store.root} cannot be written ({problem.strerror}); Ollama's models folder needs free "
        "space and the right for this user to write there, or CLAWLAMA_PUBLISH=create"
    )
