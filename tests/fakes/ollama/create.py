"""/api/create: a new manifest from a model or files, with layers replaced; statuses as they come."""

import json
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any

from tests.fakes.ollama.answer import Chunk, Chunks
from tests.fakes.ollama.failures import Refused, bad_request
from tests.fakes.ollama.gguf_header import NotGguf, human_number, read_header
from tests.fakes.ollama.names import InvalidName, Name
from tests.fakes.ollama.pull import Puller
from tests.fakes.ollama.quirks import Switchboard
from tests.fakes.ollama.store import CONFIG, IMAGE, Layer, Manifest, Store

REFUSED = "LoRA adapters are no longer supported"
UNIQUE = {"template", "system", "params", "messages"}  # a new one takes the place of the old


class Creator:
    def __init__(self, store: Store, puller: Puller, board: Switchboard) -> None:
        self._store = store
        self._puller = puller
        self._board = board

    def check(self, body: Mapping[str, Any]) -> Name:
        """What is refused before anything is sent. Raises Refused."""
        if body.get("adapters") and self._board.now.adapters == "refuse":
            raise bad_request(REFUSED)
        for path in {**(body.get("files") or {}), **(body.get("adapters") or {})}:
            if path.startswith("/") or ".." in Path(path).parts or "\\" in path:
                raise bad_request(f"file path must be relative: {path}")
        try:
            return self._store.existing(str(body.get("model") or body.get("name") or ""))
        except InvalidName as exc:
            raise bad_request("invalid model name") from exc

    async def create(self, name: Name, body: Mapping[str, Any]) -> Chunks:
        old = self._old_digests(name)
        layers: list[Layer] = []
        config: dict[str, Any] = {}
        if body.get("from"):
            async for status in self._from(str(body["from"]), layers, config):
                yield status
        elif body.get("files"):
            for file, digest in sorted(body["files"].items()):
                yield {"status": "parsing GGUF"}
                layers.append(self._file_layer(file, digest))
        else:
            raise bad_request("neither 'from' or 'files' was specified")
        for file, digest in sorted((body.get("adapters") or {}).items()):
            yield {"status": "parsing GGUF"}
            layers.append(self._file_layer(file, digest, adapter=True))
        statuses = [f"using existing layer {layer.digest}" for layer in layers]
        self._describe(config, layers)
        for kind, content in overrides(self._with_parameters_of(layers, body)):
            if kind in UNIQUE:
                layers = [layer for layer in layers if layer.media_type != IMAGE + kind]
            layer, new = self._store.add(IMAGE + kind, content)
            statuses.append(f"{'creating new' if new else 'using existing'} layer {layer.digest}")
            layers.append(layer)
        for text in [*statuses, "writing manifest"]:
            yield {"status": text}
        manifest = Manifest(config=self._store.add(CONFIG, encode(config))[0], layers=tuple(layers))
        await self._store.write(name, encode(manifest.dump()))
        self._puller.drop(old)
        yield {"status": "success"}

    def _old_digests(self, name: Name) -> set[str]:
        try:
            return self._store.read(name).manifest.digests
        except (Refused, FileNotFoundError):
            return set()

    async def _from(self, source: str, layers: list[Layer], config: dict[str, Any]) -> AsyncGenerator[Chunk, None]:
        """Fills in the layers (adapters too: they pile up) and the configuration; pulls what is not there."""
        try:
            name = self._store.existing(source)
        except InvalidName as exc:
            raise bad_request("invalid model name") from exc
        try:
            base = self._store.read(name)
        except FileNotFoundError:
            async for status in self._puller.pull(name):
                yield status
            base = self._store.read(name)
        config |= base.config
        layers.extend(
            self._store.layer(layer.media_type, layer.digest, source=name.shortest) for layer in base.manifest.layers
        )

    def _with_parameters_of(self, layers: list[Layer], body: Mapping[str, Any]) -> Mapping[str, Any]:
        """New parameters are added to those of the base, and win."""
        wanted = body.get("parameters") or {}
        for layer in layers:
            if wanted and layer.media_type == IMAGE + "params":
                wanted = {**json.loads(self._store.blob(layer.digest).read_bytes()), **wanted}
        return {**body, "parameters": wanted}

    def _file_layer(self, file: str, digest: str, *, adapter: bool = False) -> Layer:
        """Raises Refused: the blob is missing, or no GGUF."""
        path = self._store.blob(digest)
        if not path.exists():
            raise bad_request(f"blob not found for {file} (digest {digest}): open {path}: no such file or directory")
        try:
            kind = read_header(path).kind
        except NotGguf as exc:
            if not file.endswith(".gguf"):
                raise bad_request("unknown type") from exc
            raise Refused(500, str(exc)) from exc
        if kind == "adapter" and self._board.now.adapters == "refuse":
            raise bad_request(f"{REFUSED}: {file} is a LoRA adapter")
        if adapter and kind != "adapter":
            kind = "model"  # what Ollama makes of an adapter that does not say that it is one
        return self._store.layer(IMAGE + (kind if kind in {"adapter", "projector"} else "model"), digest)

    def _describe(self, config: dict[str, Any], layers: list[Layer]) -> None:
        for layer in layers:
            if layer.media_type == IMAGE + "model":
                header = read_header(self._store.blob(layer.digest))
                config.setdefault("model_format", "gguf")
                config.setdefault("model_family", header.architecture)
                config.setdefault("model_families", [header.architecture])
                config.setdefault("model_type", human_number(header.parameters))
                config.setdefault("file_type", header.file_type)
        config["rootfs"] = {"type": "layers", "diff_ids": [layer.digest for layer in layers]}
        config |= {"architecture": "amd64", "os": "linux"}


def overrides(body: Mapping[str, Any]) -> list[tuple[str, bytes]]:
    """New layers by the last word of their media type."""
    licenses = body.get("license") or []
    found = [("license", text.encode()) for text in ([licenses] if isinstance(licenses, str) else licenses)]
    found += [(kind, str(body[kind]).encode()) for kind in ("template", "system") if body.get(kind)]
    if body.get("parameters"):
        found.append(("params", encode(body["parameters"])))
    if body.get("messages"):
        found.append(("messages", encode(body["messages"])))
    return found


def encode(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
