"""What this server does differently on demand: other versions of Ollama, a bad network, a full disk.

Set at start (``STANDIN_QUIRKS``: JSON, or the path of a JSON file) and changed later by ``POST /_standin/quirks``.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, NonNegativeFloat, NonNegativeInt, PositiveInt


class Quirks(BaseModel, frozen=True, extra="forbid"):
    """Defaults: a version that takes adapters, on a machine without a network."""

    version: str = "0.33.0"
    adapters: Literal["accept", "refuse", "ignore", "no_load"] = "accept"
    """``refuse`` is 0.34.1 and later (existing tags still load); ``ignore`` serves them without effect;
    ``no_load`` lets them be created, and fails to load them."""
    layout: Literal["manifests", "manifests-v2"] = "manifests"
    """Where new manifests go; 0.40 and later write links to blobs below ``manifests-v2``."""
    prune_grace: NonNegativeFloat = 0.0
    """Seconds that an unreferenced blob is spared by the prune at start; an hour in recent versions."""
    torn_seconds: NonNegativeFloat = 0.0
    """How long a manifest being written by create, copy or pull lies there half."""

    registry: str | None = None
    """URL that stands for https://registry.ollama.ai; None: no network."""
    pull_bytes_per_second: NonNegativeInt = 0
    cut_after_bytes: NonNegativeInt | None = None
    """The connection breaks when that many bytes of a blob came through it, ``cut_times`` times (-1: always)."""
    cut_times: int = 1
    registry_failures: NonNegativeInt = 0
    """So many requests are answered with 503 by the registry."""
    corrupt: bool = False
    """A downloaded blob has other bytes than its digest says."""
    disk_bytes: NonNegativeInt | None = None
    """The disk is full when the blobs hold so much."""
    retry_seconds: NonNegativeFloat = 1.0
    """First pause after a broken download; doubled five times, as Ollama does."""
    part_bytes: PositiveInt = 100_000_000
    """Downloads go, and resume, in parts of at least this size."""

    load_seconds: NonNegativeFloat = 0.0
    busy: bool = False
    """Every inference request is one too many for the queue."""
    orphans: bool = False
    """Runners survive a SIGKILL of the server, as Ollama's do."""


class Switchboard:
    """The quirks of the moment."""

    def __init__(self, quirks: Quirks) -> None:
        self.now = quirks

    def change(self, **values: Any) -> Quirks:
        """Raises pydantic.ValidationError and keeps what was."""
        self.now = Quirks.model_validate({**self.now.model_dump(), **values})
        return self.now

    def use_up(self, name: Literal["cut_times", "registry_failures"]) -> bool:
        """Whether this occurrence is still one of the misbehaving ones; counts it down."""
        left: int = self.now.cut_times if name == "cut_times" else self.now.registry_failures
        if left > 0:
            self.change(**{name: left - 1})
        return left != 0


def from_environment(env: Mapping[str, str]) -> Quirks:
    text = env.get("STANDIN_QUIRKS", "{}")
    if not text.lstrip().startswith("{"):
        text = Path(text).read_text()
    return Quirks.model_validate_json(text)
