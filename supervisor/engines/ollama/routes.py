"""Three ways to give Ollama an adapter version as a tag of its own. Each leaves a whole tag, or raises RouteRefused.

create    the create API with an adapter; version 0.34.1 and later refuse that
manifest  a manifest written into its store: the base's layers and one adapter layer
merge     a copy of the base's weights with the adapter added in; needs no adapter support at all
"""

import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx
from ollama import AsyncClient, ProgressResponse, ResponseError

from supervisor.engines.ollama.manifest import ADAPTER, MODEL, PARAMS, Layer
from supervisor.engines.ollama.merging import Merging
from supervisor.engines.ollama.names import parse_name
from supervisor.engines.ollama.record import RouteName
from supervisor.engines.ollama.store import Store, StoredModel
from supervisor.engines.ollama.store_write import add_bytes, add_copy, add_draft, draft, put_manifest
from supervisor.errors import EngineError, RouteRefused

CONFIG = "application/vnd.docker.container.image.v1+json"
ROOM = 2**28  # bytes that stay free on a disk that we fill

Parameters = Mapping[str, int]


@dataclass(frozen=True)
class Order:
    """A tag to be made."""

    tag: str
    base: str
    gguf: Path
    parameters: Parameters
    label: str  # part of the names of unfinished files


@dataclass(frozen=True)
class Reach:
    """What the routes work with."""

    client: AsyncClient
    store: Store | None  # None: the server's folder is not on this machine, or not readable
    write: bool  # whether we may write there
    merging: Merging
    scratch: Path


Route = Callable[[Reach, Order], Awaitable[tuple[str, ...]]]
"""Makes the tag; the digests of the blobs that were added for it."""


async def by_create(reach: Reach, order: Order) -> tuple[str, ...]:
    with refusals():
        digest = await reach.client.create_blob(order.gguf)
        await finished(
            await reach.client.create(
                model=order.tag,
                from_=order.base,  # always the untuned base: adapters would accumulate
                adapters={"adapter.gguf": digest},
                parameters=dict(order.parameters) or None,
                stream=True,
            )
        )
    return (digest,)


async def by_manifest(reach: Reach, order: Order) -> tuple[str, ...]:
    store = writable_store(reach)
    digests = await anyio.to_thread.run_sync(write_with_adapter, store, order)
    await seen(reach.client, order.tag)
    return digests


async def by_merge(reach: Reach, order: Order) -> tuple[str, ...]:
    if reach.store is None:
        raise RouteRefused("the base model's file cannot be read here; set OLLAMA_MODELS to the server's models folder")
    store = reach.store
    base = await anyio.to_thread.run_sync(store.read, order.base)
    out = draft(store, order.label) if reach.write else reach.scratch / "merged.gguf"
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        size = await reach.merging.size(base.weights, order.gguf)
        check_room(out.parent, size)
        await reach.merging.merge(base.weights, order.gguf, out, size)
        if reach.write:
            digests = await anyio.to_thread.run_sync(write_with_weights, store, order, out)
            await seen(reach.client, order.tag)
            return digests
        return await upload(reach.client, order, base, out)
    finally:
        out.unlink(missing_ok=True)


ROUTES: dict[RouteName, Route] = {"create": by_create, "manifest": by_manifest, "merge": by_merge}


def write_with_adapter(store: Store, order: Order) -> tuple[str, ...]:
    base = store.read(order.base)
    adapter = add_copy(store, ADAPTER, order.gguf, order.label)
    return write_tag(store, order, base, [*base.manifest.layers, adapter], [adapter])


def write_with_weights(store: Store, order: Order, merged: Path) -> tuple[str, ...]:
    base = store.read(order.base)
    weights = add_draft(store, MODEL, merged)
    layers = [weights if layer.media_type == MODEL else layer for layer in base.manifest.layers]
    return write_tag(store, order, base, layers, [weights])


def write_tag(
    store: Store, order: Order, base: StoredModel, layers: list[Layer], added: list[Layer]
) -> tuple[str, ...]:
    """The manifest of a tag, its parameters layer and its configuration; the digests of all that is new."""
    if order.parameters:
        params = json.dumps({**base.parameters, **order.parameters}).encode()
        layer = add_bytes(store, PARAMS, params, order.label)
        layers = [*(one for one in layers if one.media_type != PARAMS), layer]
        added = [*added, layer]
    config = add_bytes(store, CONFIG, json.dumps(listing(base.config, layers)).encode(), order.label)
    config = config.model_copy(update={"media_type": base.manifest.config.media_type})
    put_manifest(store, parse_name(order.tag), base.manifest.with_layers(layers, config).dump(), order.label)
    return tuple(layer.digest for layer in [*added, config])


def listing(config: Mapping[str, Any], layers: list[Layer]) -> dict[str, Any]:
    """The base's configuration, which repeats the digests of the layers."""
    return {**config, "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]}}


async def upload(client: AsyncClient, order: Order, base: StoredModel, merged: Path) -> tuple[str, ...]:
    """Hand merged weights to the server, with what the base says beside its weights."""
    with refusals():
        digest = await client.create_blob(merged)
        await finished(
            await client.create(
                model=order.tag,
                files={"model.gguf": digest},
                template=base.template,
                system=base.system,
                license=list(base.license) or None,
                parameters={**base.parameters, **order.parameters} or None,
                stream=True,
            )
        )
    return (digest,)


async def finished(progress: AsyncIterator[ProgressResponse]) -> None:
    """Read to the end; an error in the stream is raised as ResponseError. RouteRefused when it breaks off."""
    status = None
    async for step in progress:
        status = step.status
    if status != "success":
        raise RouteRefused(f"it ended with {status!r} instead of 'success'")


async def seen(client: AsyncClient, tag: str) -> None:
    """RouteRefused unless the server finds what we wrote: it may read another folder."""
    with refusals():
        await client.show(tag)


def writable_store(reach: Reach) -> Store:
    if reach.store is None:
        raise RouteRefused("the server's models folder is not found on this machine; set OLLAMA_MODELS to it")
    if not reach.write:
        raise RouteRefused(f"{reach.store.root} is not writable for this user")
    return reach.store


def check_room(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size + ROOM:
        raise RouteRefused(
            f"the merged weights need {gigabytes(size)} and {folder} has {gigabytes(free)} free; make room there"
        )


def gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"


@contextmanager
def refusals() -> Iterator[None]:
    """What the server answered, as RouteRefused. EngineError when it did not answer at all."""
    try:
        yield
    except ResponseError as exc:
        raise RouteRefused(str(exc.error)) from exc
    except (ConnectionError, httpx.TransportError) as exc:
        raise EngineError(f"Ollama does not answer ({exc or type(exc).__name__}); is it still running?") from exc
