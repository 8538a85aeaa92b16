"""Models by reference: which ones the data was made with, and which of them are missing where it is put back."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import ValidationError

from supervisor.adapters.manifest import Manifest as AdapterManifest
from supervisor.backup.manifest import ModelReference
from supervisor.engines.ollama.manifest import Manifest
from supervisor.engines.ollama.names import ModelName, parse_name
from supervisor.engines.ollama.store import Store
from supervisor.errors import EngineError, StoreError
from supervisor.plan.models import BUNDLED

MANIFEST = "manifest.json"  # of an adapter version
OURS = "clawlama"  # namespace of our tags, as in engines.ollama.publish, which imports a client; a test compares


def references(adapters: Path, models: Path) -> tuple[ModelReference, ...]:
    """What was learned on, and what Ollama's folder holds, but for our own tags, which are made again."""
    found = {(one.name, one.digest): one for one in (*_learned_on(adapters), *_held(Store(models)))}
    return tuple(found[key] for key in sorted(found))


def missing(wanted: Iterable[ModelReference], models: Path) -> tuple[ModelReference, ...]:
    """Those that are not bundled, do not lie at the path that they are named by, and are not in Ollama's folder."""
    there = {*BUNDLED, *(str(name).lower() for name in Store(models).names())}
    return tuple(one for one in wanted if not Path(one.name).exists() and not {one.name, _written(one.name)} & there)


def _learned_on(adapters: Path) -> Iterator[ModelReference]:
    """By whatever versions are there; one that is deleted meanwhile needs no model."""
    for folder, _, files in os.walk(adapters):
        if MANIFEST not in files:
            continue
        try:
            made = AdapterManifest.model_validate_json(Path(folder, MANIFEST).read_bytes())
        except (FileNotFoundError, ValidationError):  # the second is saved as it is; `adapters` says what is wrong
            continue
        source = f"{made.adapter} was taught on it"
        yield ModelReference(name=made.base_model, digest=made.base_digest, source=source)


def _names(store: Store) -> list[ModelName]:
    try:
        return store.names()
    except FileNotFoundError:  # one was removed while we looked
        return _names(store)


def _held(store: Store) -> Iterator[ModelReference]:
    for name in _names(store):
        if name.namespace == OURS:
            continue
        try:
            manifest, digest = store.manifest(name)
        except StoreError:  # half pulled, or removed meanwhile
            continue
        yield ModelReference(name=str(name), digest=digest, size=_size(manifest), source=_source(name))


def _size(manifest: Manifest) -> int:
    return sum(layer.size for layer in {layer.digest: layer for layer in (manifest.config, *manifest.layers)}.values())


def _source(name: ModelName) -> str:
    return f"Ollama's registry {name.host}"


def _written(name: str) -> str:
    try:
        return str(parse_name(name)).lower()
    except EngineError:
        return name.lower()
