"""Adapters: which there are, their versions, taking one along."""

from typing import Any

import anyio
from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.responses import StreamingResponse

from supervisor.adapters.store import base_name
from supervisor.api.archive import zipped
from supervisor.api.context import ApiContext
from supervisor.api.feedback import served_adapter
from supervisor.engines.engine import Version
from supervisor.errors import RequestError
from supervisor.journal.records import UNDER_WAY


class InitRequest(BaseModel, frozen=True, extra="forbid"):
    """``base_model`` left out: the served one. The LoRA's shape is the plan's; wishes for it are reported back."""

    lora_id: str = Field(min_length=1)
    base_model: str | None = None
    lora_r: int | None = Field(None, ge=4, le=128)
    lora_alpha: int | None = Field(None, ge=8, le=256)
    target_modules: list[str] | None = None


class CurrentRequest(BaseModel, frozen=True, extra="forbid"):
    """``version`` is a name such as v0002, or null for the bare base model."""

    lora_id: str = Field(min_length=1)
    version: str | None


def lora_routes(context: ApiContext) -> APIRouter:
    router = APIRouter(tags=["adapters"])
    adapters = context.adapters

    @router.get("/v1/lora")
    async def names(prefix: str = "") -> dict[str, Any]:
        """Adapters whose name starts with ``prefix``: the served one, and all that have a version."""
        served = context.engine.served.adapter
        found = {*adapters.names(prefix), *([served] if served.startswith(prefix) else [])}
        return {"loras": sorted(found)}

    @router.post("/v1/lora/init")
    async def init(request: InitRequest) -> dict[str, Any]:
        """Check that lessons on this adapter are possible.

        Nothing is written: an adapter begins as its base model, and its first version is made by its first lesson.
        """
        return beginning(context, request)

    @router.get("/v1/lora/versions")
    async def versions(lora_id: str) -> dict[str, Any]:
        """An adapter's versions, oldest first; ``current`` is the one for new starts, ``served`` answers now."""
        adapter = known_adapter(context, lora_id)
        current, served = adapters.current(adapter), context.engine.served
        return {
            "lora_id": adapter,
            "current": current.manifest.version if current else None,
            "served": served.version if adapter == served.adapter else None,
            "versions": [version.manifest.model_dump(mode="json") for version in adapters.versions(adapter)],
        }

    @router.post("/v1/lora/current")
    async def current(request: CurrentRequest) -> dict[str, Any]:
        """Serve another version from now on, an older one to undo a lesson; the next lesson continues from it."""
        return await serve_version(context, request)

    @router.get("/v1/lora/export")
    async def export(lora_id: str) -> StreamingResponse:
        """The adapter's current version as a ZIP: PEFT weights, GGUF, optimiser state, manifest."""
        adapter = known_adapter(context, lora_id)
        current = adapters.current(adapter)
        if current is None:
            raise RequestError(404, f"adapter {adapter!r} has no version yet: it still is its base model")
        name = f"{adapter.replace('/', '-')}-{current.manifest.version}.zip"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return StreamingResponse(zipped(current.folder), media_type="application/zip", headers=headers)

    @router.delete("/v1/lora")
    async def delete(lora_id: str) -> dict[str, bool]:
        """Drop an adapter with all its versions, unless it is being served."""
        adapter = base_name(lora_id)
        if adapter not in adapters.names(adapter):
            return {"deleted": False}
        if adapter == context.engine.served.adapter:
            raise RequestError(409, f"adapter {adapter!r} is being served; start with another CLAWLAMA_ADAPTER first")
        return {"deleted": await anyio.to_thread.run_sync(adapters.delete, adapter)}

    return router


def beginning(context: ApiContext, request: InitRequest) -> dict[str, Any]:
    """What an adapter starts from. RequestError when it is not the served one, or its base not allowed."""
    adapter, served = served_adapter(context, request.lora_id), context.engine.served
    base, allowed = request.base_model or served.base, {*context.allowed_base_models, served.base}
    if base not in allowed:
        raise RequestError(403, f"base model {base!r} is not allowed; allowed: {', '.join(sorted(allowed))}")
    if base != served.base:
        raise RequestError(409, f"base model {base!r} is not the one that is served, which is {served.base!r}")
    wishes = request.model_dump(exclude_none=True, include={"lora_r", "lora_alpha", "target_modules"})
    return {"lora_id": adapter, "base_model": base, "version": served.version, "ignored": sorted(wishes)}


async def serve_version(context: ApiContext, request: CurrentRequest) -> dict[str, Any]:
    """RequestError when there is no such version, or a lesson is about to decide what serves."""
    adapter, adapters = served_adapter(context, request.lora_id), context.adapters
    if under_way := await context.journal.lessons(1, adapter, UNDER_WAY):
        raise RequestError(409, f"lesson {under_way[0].id} is being learned; wait for its end and try again")
    known = {one.manifest.version: one for one in adapters.versions(adapter)}
    if request.version is not None and request.version not in known:
        raise RequestError(404, f"{adapter} has no version {request.version!r}; it has: {', '.join(known) or 'none'}")
    chosen = known[request.version] if request.version else None
    await context.engine.publish(Version(chosen.manifest.version, chosen.gguf) if chosen else None)
    await anyio.to_thread.run_sync(adapters.promote, adapter, request.version)
    return {"lora_id": adapter, "current": request.version}


def known_adapter(context: ApiContext, lora_id: str) -> str:
    """The adapter's plain name. RequestError (404) when there is none of that name."""
    name, served = base_name(lora_id), context.engine.served.adapter
    known = {served, *context.adapters.names()}
    if name not in known:
        raise RequestError(404, f"there is no adapter {name!r}; there are: {', '.join(sorted(known))}")
    return name
