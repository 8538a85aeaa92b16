"""Ollama's models folder, read only: which files a model is made of.

Layout: ``manifests/<host>/<namespace>/<model>/<tag>`` and ``blobs/sha256-<hex>``. Newer servers write
``manifests-v2/`` instead, where an entry is a link to a blob; it wins over one of the same name in ``manifests/``.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supervisor.engines.ollama.manifest import (
    ADAPTER,
    LICENSE,
    MODEL,
    PARAMS,
    PROJECTOR,
    SYSTEM,
    TEMPLATE,
    Manifest,
    parse_manifest,
    preferred,
)
from supervisor.engines.ollama.names import HOST, PUBLIC_HOST, ModelName, parse_name
from supervisor.errors import StoreError

NEWER, OLDER = "manifests-v2", "manifests"


@dataclass(frozen=True)
class StoredModel:
    """One model as its manifest lists it. Digests as ``sha256:<hex>``, sizes in bytes."""

    name: ModelName
    digest: str  # of the manifest file, as the server reports it
    manifest: Manifest
    config: dict[str, Any]
    weights: Path
    weights_digest: str
    weights_size: int
    template: str | None
    system: str | None
    license: tuple[str, ...]
    parameters: dict[str, Any]
    adapters: tuple[Path, ...]
    projectors: tuple[Path, ...]


@dataclass(frozen=True)
class Store:
    """One models folder."""

    root: Path

    @property
    def blobs(self) -> Path:
        return self.root / "blobs"

    def blob(self, digest: str) -> Path:
        return self.blobs / digest.replace(":", "-")

    def find(self, name: ModelName) -> Path | None:
        """The file of a manifest, however its name is spelled."""
        for folder in (NEWER, OLDER):
            exact = manifest_path(self.root, folder, name)
            if exact.is_file():
                return exact
            for path, other in self._entries(folder):
                if other.same(name):
                    return path
        return None

    def names(self) -> list[ModelName]:
        return [name for folder in (NEWER, OLDER) for _, name in self._entries(folder)]

    def digest(self, model: str) -> str | None:
        """The SHA-256 of a model's manifest file, None when there is none. StoreError when it cannot be read."""
        path = self.find(parse_name(model))
        return None if path is None else sha256(read(path))

    def read(self, model: str) -> StoredModel:
        """Raises StoreError naming the file and the way out, EngineError for an impossible name."""
        name = parse_name(model)
        manifest, digest = self.manifest(name)
        weights = manifest.of(MODEL)
        if len(weights) != 1:
            problem = "is split into several files" if weights else "has no weights (a model in the cloud?)"
            raise StoreError(f"{name} {problem}; lessons need a model whose weights are one GGUF file, pull another")
        params = self._texts(manifest, PARAMS)
        return StoredModel(
            name=name,
            digest=digest,
            manifest=manifest,
            config=self._json(manifest.config.digest),
            weights=self._present(weights[0].digest, name),
            weights_digest=weights[0].digest.replace("-", ":"),
            weights_size=weights[0].size,
            template=last(self._texts(manifest, TEMPLATE)),
            system=last(self._texts(manifest, SYSTEM)),
            license=self._texts(manifest, LICENSE),
            parameters={key: value for text in params for key, value in as_object(text, name).items()},
            adapters=tuple(self.blob(layer.digest) for layer in manifest.of(ADAPTER)),
            projectors=tuple(self.blob(layer.digest) for layer in manifest.of(PROJECTOR)),
        )

    def manifest(self, name: ModelName) -> tuple[Manifest, str]:
        """A model's manifest and the digest of its file. StoreError when it is missing or broken."""
        path = self.find(name)
        if path is None:
            raise StoreError(f"{self.root} holds no model {name}; pull it, or set OLLAMA_MODELS to the right folder")
        content = read(path)
        parsed = parse_manifest(content, path)
        if not isinstance(parsed, Manifest):
            inner = self.blob(preferred(parsed, path).digest)
            parsed = parse_manifest(read(inner), inner)
            if not isinstance(parsed, Manifest):
                raise StoreError(f"{inner} is a list inside a list; pull {name} again")
        return parsed, sha256(content)

    def used(self) -> set[str]:
        """File names of the blobs that any manifest mentions. StoreError when one is broken: it may need any blob."""
        needed: set[str] = set()
        for folder in (NEWER, OLDER):
            for path, _ in self._entries(folder):
                content = read(path)
                needed.add(sha256(content).replace(":", "-"))
                parsed = parse_manifest(content, path)
                digests = parsed.digests if isinstance(parsed, Manifest) else {one.digest for one in parsed}
                needed |= {digest.replace(":", "-") for digest in digests}
        return needed

    def _entries(self, folder: str) -> Iterator[tuple[Path, ModelName]]:
        top = self.root / folder
        for path in sorted(top.glob("*/*/*/*")):
            host, namespace, model, tag = path.relative_to(top).parts
            if not tag.startswith(".") and path.is_file():
                host = host.replace("%3A", ":")
                yield path, ModelName(HOST if host.lower() == PUBLIC_HOST else host, namespace, model, tag)

    def _present(self, digest: str, name: ModelName) -> Path:
        path = self.blob(digest)
        if not path.is_file():
            raise StoreError(f"{path}, a part of {name}, is missing; pull the model again")
        try:
            path.open("rb").close()
        except OSError as exc:
            raise unreadable(path, exc) from exc
        return path

    def _texts(self, manifest: Manifest, media_type: str) -> tuple[str, ...]:
        return tuple(read(self.blob(layer.digest)).decode(errors="replace") for layer in manifest.of(media_type))

    def _json(self, digest: str) -> dict[str, Any]:
        path = self.blob(digest)
        return as_object(read(path).decode(errors="replace"), path)


def find_store(candidates: Iterable[Path], model: str, digest: str | None) -> Store | None:
    """The first folder whose manifest of this model is the one that the server reports (``digest``, in hex).

    A folder that cannot be read is passed over: it may be another server's.
    """
    wanted = None if digest is None else f"sha256:{digest.removeprefix('sha256:')}"
    for folder in candidates:
        store = Store(folder)
        try:
            found = store.digest(model)
        except (StoreError, PermissionError):
            continue
        if found is not None and wanted in (None, found):
            return store
    return None


def manifest_path(root: Path, folder: str, name: ModelName) -> Path:
    host = name.host
    if folder == NEWER:
        host = PUBLIC_HOST if host.lower() == HOST else host.replace(":", "%3A")
    return root / folder / host / name.namespace / name.model / name.tag


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as exc:
        raise StoreError(f"{path} is missing; pull the model again") from exc
    except OSError as exc:
        raise unreadable(path, exc) from exc


def unreadable(path: Path, problem: OSError) -> StoreError:
    return StoreError(
        f"{path} cannot be read ({problem.strerror}); give this user the right to read Ollama's models folder, "
        "for example by joining its group"
    )


def as_object(text: str, where: object) -> dict[str, Any]:
    try:
        parsed = json.loads(text)
    except json.JSONDecodeError as exc:
        raise StoreError(f"{where}: not JSON ({exc}); pull the model again") from exc
    if not isinstance(parsed, dict):
        raise StoreError(f"{where}: not a JSON object; pull the model again")
    return parsed


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def last(texts: tuple[str, ...]) -> str | None:
    return texts[-1] if texts else None
