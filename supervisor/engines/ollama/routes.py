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
from supervisor.engines.ollama.store_write import Shelf
from supervisor.errors import EngineError, RouteRefused

ROOM = 2**28  # bytes that stay free on a disk that we fill

Parameters = Mapping[str, int]


@dataclass(frozen=True)
class Order:
    """A tag to be made."""

    tag: str
    base: str
    gguf: Path
    parameters: Parameters


@dataclass(frozen=True)
class Reach:
    """What the routes work with."""

    client: AsyncClient
    store: Store | None  # None: the server's folder is not on this machine, or not readable
    shelf: Shelf | None  # None: it is not writable
    merging: Merging
    scratch: Path


Route = Callable[[Reach, Order], Awaitable[None]]


async def by_create(reach: Reach, order: Order) -> None:
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


async def by_manifest(reach: Reach, order: Order) -> None:
    if reach.store is None:
        raise RouteRefused("the server's models folder is not found on this machine; set OLLAMA_MODELS to it")
    if reach.shelf is None:
        raise RouteRefused(f"{reach.store.root} is not writable for this user")
    await anyio.to_thread.run_sync(write_with_adapter, reach.shelf, order)
    await seen(reach.client, order.tag)


async def by_merge(reach: Reach, order: Order) -> None:
    if reach.store is None:
        raise RouteRefused("the base model's file cannot be read here; set OLLAMA_MODELS to the server's models folder")
    base = await anyio.to_thread.run_sync(reach.store.read, order.base)
    out = reach.shelf.draft() if reach.shelf else reach.scratch / "merged.gguf"
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        size = await reach.merging.size(base.weights, order.gguf)
        check_room(out.parent, size)
        await reach.merging.merge(base.weights, order.gguf, out, size)
        if reach.shelf is None:
            await upload(reach.client, order, base, out)
        else:
            await anyio.to_thread.run_sync(write_with_weights, reach.shelf, order, out)
            await seen(reach.client, order.tag)
    finally:
        out.unlink(missing_ok=True)


ROUTES: dict[RouteName, Route] = {"create": by_create, "manifest": by_manifest, "merge": by_merge}


def write_with_adapter(shelf: Shelf, order: Order) -> None:
    base = shelf.store.read(order.base)
    write_tag(shelf, order, base, [*base.manifest.layers, shelf.add_copy(ADAPTER, order.gguf)])


def write_with_weights(shelf: Shelf, order: Order, merged: Path) -> None:
    base = shelf.store.read(order.base)
    weights = shelf.add_draft(MODEL, merged)
    layers = [weights if layer.media_type == MODEL else layer for layer in base.manifest.layers]
    write_tag(shelf, order, base, layers)


def write_tag(shelf: Shelf, order: Order, base: StoredModel, layers: list[Layer]) -> None:
    """The manifest of a tag, with its parameters and its configuration."""
    if order.parameters:
        parameters = shelf.add_bytes(PARAMS, json.dumps({**base.parameters, **order.parameters}).encode())
        layers = [*(layer for layer in layers if layer.media_type != PARAMS), parameters]
    config = shelf.add_bytes(base.manifest.config.media_type, json.dumps(listing(base.config, layers)).encode())
    shelf.put_manifest(parse_name(order.tag), base.manifest.with_layers(layers, config).dump())


def listing(config: Mapping[str, Any], layers: list[Layer]) -> dict[str, Any]:
    """The base's configuration, which repeats the digests of the layers."""
    return {**config, "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]}}


async def upload(client: AsyncClient, order: Order, base: StoredModel, merged: Path) -> None:
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
