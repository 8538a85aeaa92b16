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

    schema_version: Literal[1] = 1
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
