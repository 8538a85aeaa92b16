"""Adapter versions with small made-up files."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from supervisor.adapters.manifest import Manifest
from supervisor.adapters.store import AdapterStore, AdapterVersion, file_records

NAME = "openclaw/assistant"


def manifest(staged: Path, version: str, adapter: str = NAME, **other: Any) -> Manifest:
    values: dict[str, Any] = {
        "adapter": adapter,
        "version": version,
        "parent": None,
        "created": datetime.now(UTC),
        "base_model": "tiny-chat",
        "base_digest": "sha256:0",
        "lesson_id": None,
        "step": 1,
        "lora": {},
        "training": {},
        "code_version": "0",
        "files": file_records(staged),
    }
    return Manifest.model_validate(values | other)


def fill(folder: Path, content: str = "weights") -> Path:
    (folder / "adapter.gguf").write_text(content)
    return folder


def made(store: AdapterStore, adapter: str = NAME, content: str = "weights", **other: Any) -> AdapterVersion:
    """The next version, whole."""
    version = store.next_version(adapter)
    staged = fill(store.stage(adapter, version), content)
    return store.commit(staged, manifest(staged, version, adapter, **other))
