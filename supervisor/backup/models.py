"""Models by reference: which ones the data was made with, and which of them are missing where it is put back."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from supervisor.adapters.store import AdapterStore
from supervisor.backup.manifest import ModelReference
from supervisor.engines.ollama.manifest import Manifest
from supervisor.engines.ollama.names import ModelName, parse_name
from supervisor.engines.ollama.publish import NAMESPACE
from supervisor.engines.ollama.store import Store
from supervisor.errors import AdapterError, EngineError, StoreError
from supervisor.plan.models import BUNDLED


def references(adapters: Path, models: Path) -> tuple[ModelReference, ...]:
    """What was learned on, and what Ollama's folder holds, but for our own tags, which are made again."""
    found = {(one.name, one.digest): one for one in (*_learned_on(AdapterStore(adapters)), *_held(Store(models)))}
    return tuple(found[key] for key in sorted(found))


def missing(wanted: Iterable[ModelReference], models: Path) -> tuple[ModelReference, ...]:
    """Those that are not bundled, do not lie at the path that they are named by, and are not in Ollama's folder."""
    there = {*BUNDLED, *(str(name).lower() for name in Store(models).names())}
    return tuple(one for one in wanted if not Path(one.name).exists() and not {one.name, _written(one.name)} & there)


def _learned_on(store: AdapterStore) -> Iterator[ModelReference]:
    for name in store.names():
        try:
            versions = store.versions(name)
        except AdapterError:  # it is saved as it is; its own commands say what is wrong
            continue
        for version in versions:
            made = version.manifest
            yield ModelReference(
                name=made.base_model, digest=made.base_digest, size=None, source=f"{made.adapter} was taught on it"
            )


def _held(store: Store) -> Iterator[ModelReference]:
    for name in store.names():
        if name.namespace == NAMESPACE:
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
