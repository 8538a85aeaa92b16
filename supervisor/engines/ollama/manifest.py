"""What a model in Ollama's store is made of: one manifest (docker's, version 2) that lists layers by digest."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from supervisor.errors import StoreError

IMAGE = "application/vnd.ollama.image."
MODEL, ADAPTER, PROJECTOR = f"{IMAGE}model", f"{IMAGE}adapter", f"{IMAGE}projector"
TEMPLATE, SYSTEM, PARAMS, LICENSE = f"{IMAGE}template", f"{IMAGE}system", f"{IMAGE}params", f"{IMAGE}license"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
RUNNERS = ("ollama", "llamacpp")  # whose manifest we take from a list of them, best first


class Layer(BaseModel):
    """One blob: what it is, its SHA-256 as ``sha256:<hex>`` and its size in bytes."""

    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True)

    media_type: str = Field(alias="mediaType")
    digest: str = Field(pattern=r"^sha256[:-][0-9a-fA-F]{64}$")
    size: int = Field(ge=0)


class Manifest(BaseModel):
    """Fields that we do not know are kept as they are."""

    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True)

    config: Layer
    layers: tuple[Layer, ...]

    def of(self, media_type: str) -> tuple[Layer, ...]:
        return tuple(layer for layer in self.layers if layer.media_type == media_type)

    @property
    def digests(self) -> set[str]:
        return {layer.digest for layer in (self.config, *self.layers)}

    def with_layers(self, layers: Iterable[Layer], config: Layer) -> "Manifest":
        return self.model_copy(update={"layers": tuple(layers), "config": config})

    def dump(self) -> bytes:
        return json.dumps(self.model_dump(by_alias=True, mode="json"), separators=(",", ":")).encode()


class Choice(BaseModel):
    """One manifest of a list."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    digest: str
    runner: str = ""


def parse_manifest(content: bytes, where: object) -> Manifest | tuple[Choice, ...]:
    """A manifest, or a list of them to choose from. StoreError names ``where`` it was read."""
    try:
        parsed: Any = json.loads(content)
        if isinstance(parsed, Mapping) and "manifests" in parsed:
            return tuple(Choice.model_validate(one) for one in parsed["manifests"])
        return Manifest.model_validate(parsed)
    except (ValueError, TypeError) as exc:
        problem = f"{exc.error_count()} fields are wrong" if isinstance(exc, ValidationError) else str(exc)
        raise StoreError(
            f"{where} is not a manifest ({problem}); pull the model again, or remove it with `ollama rm`"
        ) from exc


def preferred(choices: Iterable[Choice], where: object) -> Choice:
    """The manifest whose weights llama.cpp reads. StoreError when the list has none."""
    known = [choice for choice in choices if choice.runner in RUNNERS]
    if not known:
        raise StoreError(f"{where} lists no manifest for {' or '.join(RUNNERS)}: its weights are not GGUF")
    return min(known, key=lambda choice: RUNNERS.index(choice.runner))
