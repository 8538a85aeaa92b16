"""A registry of models, as registry.ollama.ai is one: manifests and blobs, with ranges.

``publish`` puts a model into its folder; ``registry_app`` serves that folder.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from tests.fakes.ollama.gguf_header import human_number, read_header
from tests.fakes.ollama.store import CONFIG, DIGEST, IMAGE, MANIFEST, Layer, Manifest


def publish(
    folder: Path,
    repository: str,
    tag: str,
    gguf: Path,
    *,
    template: str = "",
    params: Mapping[str, Any] | None = None,
    system: str = "",
    license_text: str = "",
) -> Manifest:
    """``repository`` as in ``library/tiny``; publishing it again replaces the tag."""
    header = read_header(gguf)
    layers = [add_file(folder, IMAGE + "model", gguf)]
    texts = {"template": template, "system": system, "license": license_text}
    layers += [add(folder, IMAGE + kind, text.encode()) for kind, text in texts.items() if text]
    if params:
        layers.append(add(folder, IMAGE + "params", json.dumps(params).encode()))
    config = {
        "model_format": "gguf",
        "model_family": header.architecture,
        "model_families": [header.architecture],
        "model_type": human_number(header.parameters),
        "file_type": header.file_type,
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
    }
    manifest = Manifest(config=add(folder, CONFIG, json.dumps(config).encode()), layers=tuple(layers))
    path = folder / "manifests" / repository / tag
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(manifest.dump(), separators=(",", ":")))
    return manifest


def add(folder: Path, media_type: str, content: bytes) -> Layer:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    path = blob(folder, digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return Layer(media_type=media_type, digest=digest, size=len(content))


def add_file(folder: Path, media_type: str, source: Path) -> Layer:
    """Linked where the file system allows it, so that large models cost no copy."""
    with source.open("rb") as file:
        digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    path = blob(folder, digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        try:
            os.link(source, path)
        except OSError:
            shutil.copyfile(source, path)
    return Layer(media_type=media_type, digest=digest, size=source.stat().st_size)


def blob(folder: Path, digest: str) -> Path:
    return folder / "blobs" / digest.replace(":", "-")


def registry_app(folder: Path) -> Starlette:
    async def manifest(request: Request) -> Response:
        path = folder / "manifests" / request.path_params["repository"] / request.path_params["tag"]
        if not path.is_file():
            return missing("MANIFEST_UNKNOWN")
        return Response(path.read_bytes(), media_type=MANIFEST)

    async def content(request: Request) -> Response:
        digest = request.path_params["digest"]
        if not DIGEST.fullmatch(digest) or not blob(folder, digest).is_file():
            return missing("BLOB_UNKNOWN")
        return FileResponse(blob(folder, digest), media_type="application/octet-stream")

    return Starlette(
        routes=[
            Route("/v2/", lambda _request: JSONResponse({})),
            Route("/v2/{repository:path}/manifests/{tag}", manifest),
            Route("/v2/{repository:path}/blobs/{digest}", content),
        ]
    )


def missing(code: str) -> Response:
    return JSONResponse({"errors": [{"code": code, "message": "not found"}]}, 404)
