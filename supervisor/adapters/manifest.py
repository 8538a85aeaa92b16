"""What is written beside every adapter version, so that it can be explained, checked and made again."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel


class FileRecord(BaseModel, frozen=True, extra="forbid"):
    """One file of a version: size in bytes and SHA-256 in hex."""

    size: int
    sha256: str


class Manifest(BaseModel, frozen=True, extra="forbid"):
    """``manifest.json`` of one adapter version. Written last: a version without it does not exist."""

    schema_version: Literal[1, 2] = 2  # in the first nothing says what was read, or by what it was made
    adapter: str
    version: str
    parent: str | None
    created: datetime
    base_model: str
    base_digest: str
    lesson_id: str | None
    feedback: tuple[str, ...] = ()
    step: int
    lora: dict[str, Any]
    training: dict[str, Any]
    metrics: dict[str, float] = {}
    code_version: str
    files: dict[str, FileRecord]
    step_before: int | None = None
    """Optimiser steps of the parent; ``step`` counts them, too."""
    samples_sha256: str | None = None
    """Of what was taught, as canonical JSON, without the folders that it mentions."""
    base_files: dict[str, FileRecord] = {}
    """What the trainer loaded of the base model, by name within its folder."""
    adapter_files: dict[str, FileRecord] = {}
    """What it read of the parent, and of the versions that wrote the replies, by path within the store."""
    made_with: dict[str, str | int] = {}
    """Trainer, precision, device, instruction set, threads, seed, versions of the libraries."""
