"""The models folder on disk, in Ollama's layout: ``manifests/``, ``manifests-v2/`` and ``blobs/``.

What somebody else put there is served as it lies. Manifests are written in place, as Ollama does, so a reader can
meet half of one.
"""

import hashlib
import json
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tests.fakes.ollama.failures import Refused, bad_request, go_words
from tests.fakes.ollama.names import HOST, PUBLIC_HOSTS, InvalidName, Name, parse
from tests.fakes.ollama.quirks import Switchboard

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
IMAGE = "application/vnd.ollama.image."
DIGEST = re.compile(r"sha256[:-][0-9a-fA-F]{64}")


class Layer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    media_type: str = Field(alias="mediaType")
    digest: str
    size: int
    source: str = Field("", alias="from")

    def dump(self) -> dict[str, Any]:
        return self.model_dump(by_alias=True, exclude_defaults=True)


class Manifest(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    config: Layer
    layers: tuple[Layer, ...]

    def dump(self) -> dict[str, Any]:
        return {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.config.dump(),
            "layers": [layer.dump() for layer in self.layers],
        }

    @property
    def digests(self) -> set[str]:
        return {layer.digest for layer in (*self.layers, self.config) if layer.digest}

    @property
    def size(self) -> int:
        return sum(layer.size for layer in (*self.layers, self.config))


@dataclass(frozen=True)
class Stored:
    """A manifest as it was found, and where its parts lie."""

    name: Name
    manifest: Manifest
    digest: str  # of the manifest's bytes, hexadecimal
    modified: datetime
    config: dict[str, Any]
    blobs: dict[str, tuple[Path, ...]] = field(default_factory=dict)  # by the last word of the media type

    @property
    def weights(self) -> Path | None:
        return next(iter(self.blobs.get("model", ())), None)

    @property
    def adapters(self) -> tuple[Path, ...]:
        return self.blobs.get("adapter", ())

    def text(self, kind: str) -> str:
        return "\n".join(path.read_text() for path in self.blobs.get(kind, ()))

    def data(self, kind: str, default: Any) -> Any:
        found = self.blobs.get(kind)
        return json.loads(found[-1].read_text()) if found else default


class Store:
    def __init__(self, root: Path, board: Switchboard) -> None:
        self.root = root
        self._board = board
        self.blobs.mkdir(parents=True, exist_ok=True)

    @property
    def blobs(self) -> Path:
        return self.root / "blobs"

    def blob(self, digest: str) -> Path:
        if not DIGEST.fullmatch(digest):
            raise bad_request("invalid digest format")
        return self.blobs / digest.replace(":", "-")

    def layer(self, media_type: str, digest: str, source: str = "") -> Layer:
        """Raises FileNotFoundError."""
        path = self.blob(digest)
        path.touch()
        return Layer(media_type=media_type, digest=digest, size=path.stat().st_size, source=source)

    def add(self, media_type: str, content: bytes) -> tuple[Layer, bool]:
        """The layer, and whether its blob is new."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        path = self.blob(digest)
        new = not path.exists()
        if new:
            temporary = path.with_name(f"sha256-{secrets.token_hex(5)}")
            temporary.write_bytes(content)
            temporary.replace(path)
        return Layer(media_type=media_type, digest=digest, size=len(content)), new

    def names(self) -> Iterator[Name]:
        return (name for name, _ in self._entries())

    def existing(self, text: str) -> Name:
        """Raises InvalidName."""
        return parse(text).spelled_like(self.names())

    def find(self, name: Name) -> Path:
        """The file of a manifest; an entry below manifests-v2 wins. Raises FileNotFoundError."""
        for path in (self._path("manifests-v2", name), self._path("manifests", name)):
            if path.exists():
                return path
        raise FileNotFoundError(name.full)

    def read(self, name: Name) -> Stored:
        """Raises FileNotFoundError, or Refused when it does not parse."""
        path = self.find(name)
        content = path.read_bytes()
        manifest = parse_manifest(content)
        blobs: dict[str, tuple[Path, ...]] = {}
        for layer in manifest.layers:
            kind = layer.media_type.removeprefix(IMAGE)
            blobs[kind] = (*blobs.get(kind, ()), self.blob(layer.digest))
        return Stored(
            name=name,
            manifest=manifest,
            digest=hashlib.sha256(content).hexdigest(),
            modified=datetime.fromtimestamp(path.stat().st_mtime, UTC),
            config=json.loads(self.blob(manifest.config.digest).read_text()),
            blobs=blobs,
        )

    def all(self) -> list[Stored]:
        """Every model that can be read, the latest first; the others are passed over."""
        found = []
        for name in dict(self._entries()):
            try:
                found.append(self.read(name))
            except (Refused, FileNotFoundError, json.JSONDecodeError):
                continue
        return sorted(found, key=lambda stored: stored.modified, reverse=True)

    async def write(self, name: Name, content: bytes) -> None:
        if self._board.now.layout == "manifests-v2":
            await self._link(name, content)
        else:
            await self._write_in_place(self._path("manifests", name), content)

    async def copy(self, source: Name, target: Name) -> None:
        """Raises FileNotFoundError."""
        content = self.find(source).read_bytes()
        if source != target:
            await self.write(target, content)

    def remove(self, name: Name) -> None:
        """The manifest, and every blob that only it needed. Raises FileNotFoundError."""
        path = self.find(name)
        digests = {f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"}
        with suppress(Refused):  # a broken manifest can be deleted too
            digests |= parse_manifest(path.read_bytes()).digests
        for entry in (self._path("manifests-v2", name), self._path("manifests", name)):
            entry.unlink(missing_ok=True)
            drop_empty(entry.parent)
        self.drop_unused(digests)

    def drop_unused(self, digests: Iterable[str]) -> None:
        used = self._used()
        for digest in digests:
            if digest.replace(":", "-") not in used:
                self.blob(digest).unlink(missing_ok=True)

    def prune(self) -> None:
        """What Ollama does when it starts: partial downloads and unused blobs go, unless a manifest is broken."""
        try:
            for name, _ in self._entries():
                self.read(name)
        except (Refused, FileNotFoundError, json.JSONDecodeError):
            return
        used = self._used()
        spared = datetime.now(UTC) - timedelta(seconds=self._board.now.prune_grace)
        for path in self.blobs.iterdir():
            if path.name not in used and datetime.fromtimestamp(path.stat().st_mtime, UTC) <= spared:
                path.unlink(missing_ok=True)

    def _used(self) -> set[str]:
        """File names of the blobs that some readable manifest needs."""
        used = set()
        for _, path in self._entries():
            try:
                content = path.read_bytes()
                used |= {digest.replace(":", "-") for digest in parse_manifest(content).digests}
            except (Refused, FileNotFoundError):
                continue
            used.add(f"sha256-{hashlib.sha256(content).hexdigest()}")
        return used

    def _entries(self) -> Iterator[tuple[Name, Path]]:
        seen = set()
        for folder in ("manifests-v2", "manifests"):
            for path in sorted((self.root / folder).glob("*/*/*/*")):
                host, namespace, model, tag = path.relative_to(self.root / folder).parts
                try:
                    name = parse(f"{host.replace('%3A', ':')}/{namespace}/{model}:{tag}")
                except InvalidName:
                    continue
                if name not in seen and not path.is_dir():
                    seen.add(name)
                    yield name, path

    def _path(self, folder: str, name: Name) -> Path:
        host = name.host
        if folder == "manifests-v2":
            host = "ollama.com" if host.lower() in PUBLIC_HOSTS else host.replace(":", "%3A")
        elif host.lower() in PUBLIC_HOSTS:
            host = HOST
        return self.root / folder / host / name.namespace / name.model / name.tag

    async def _write_in_place(self, path: Path, content: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            half = len(content) // 2
            file.write(content[:half])
            file.flush()
            await anyio.sleep(self._board.now.torn_seconds)
            file.write(content[half:])

    async def _link(self, name: Name, content: bytes) -> None:
        layer, _ = self.add(MANIFEST, content)
        path = self._path("manifests-v2", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        await anyio.sleep(self._board.now.torn_seconds)
        path.symlink_to(Path("../../../..") / "blobs" / layer.digest.replace(":", "-"))
        self._path("manifests", name).unlink(missing_ok=True)


def drop_empty(folder: Path) -> None:
    """The folders of model, namespace and host, as far as nothing is left in them."""
    for level in (folder, folder.parent, folder.parent.parent):
        try:
            level.rmdir()
        except OSError:  # something else is in it, or it never was
            continue


def parse_manifest(content: bytes) -> Manifest:
    """Raises Refused with what Go's JSON decoder says."""
    try:
        return Manifest.model_validate(json.loads(content))
    except json.JSONDecodeError as exc:
        raise Refused(500, go_words(exc)) from exc
    except (ValidationError, UnicodeDecodeError) as exc:
        raise Refused(500, f"invalid manifest: {type(exc).__name__}") from exc
