"""What an archive says of itself, in two members: ``about.json`` first, ``manifest.json`` last.

The first lets a reader refuse what it is too old for before it has read gigabytes. The list with sizes and checksums
comes last, because a file that is in use has none until it was read: so each is read once, and the numbers are those
of the bytes that are in the archive. An archive that was cut short has no list, so it never passes for a whole one,
and `tar` still gets every whole file out of it.
"""

import json
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field, ValidationError

from supervisor.errors import BackupError, BrokenArchive

FORMAT = 1
SCHEMA = "0001"  # the journal's, as in journal.tables, whose library takes a second to import; a test compares
ABOUT, MANIFEST = "about.json", "manifest.json"
DATA = "data"  # the members' folder: what lies below it in the archive lies below the data folder
MOST_MEMBERS = 500_000
LONGEST_ABOUT, LONGEST_MANIFEST = 2**20, 2**28  # bytes

Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Size = Annotated[int, Field(ge=0)]


class ModelReference(BaseModel, frozen=True, extra="forbid"):
    """A model that the data was made with; its weights are in the archive only when it was made with them."""

    name: str
    digest: str
    size: int | None = None  # bytes; None: not known here
    source: str  # whence it comes, for people


class Machine(BaseModel, frozen=True, extra="forbid"):
    """Where it was made. Nothing in an archive depends on it; it explains a surprise."""

    architecture: str
    system: str
    python: str


class About(BaseModel, frozen=True, extra="forbid"):
    format: int = FORMAT
    clawlama: str
    created: datetime
    journal_schema: str | None = None  # None: there was no journal yet
    machine: Machine
    with_models: bool
    with_logs: bool
    models: tuple[ModelReference, ...]
    packs: tuple[str, ...]  # what lay in the folder of downloaded libraries: fetched anew where it is needed


class Entry(BaseModel, frozen=True, extra="forbid"):
    """One member. ``name`` is relative to the data folder."""

    name: str
    kind: Literal["file", "folder", "link"]
    mode: int = Field(ge=0, le=0o777)
    mtime_ns: int
    size: Size = 0
    sha256: Hash | None = None
    target: str | None = None


class Remark(BaseModel, frozen=True, extra="forbid"):
    """What is not in the archive although it might be wanted, or not as it was."""

    name: str
    text: str


class Manifest(BaseModel, frozen=True, extra="forbid"):
    about: About
    entries: tuple[Entry, ...]
    remarks: tuple[Remark, ...] = ()


def parse_about(text: bytes) -> About:
    """BackupError when a newer clawlama made it, BrokenArchive when it is none of ours."""
    try:
        loose = json.loads(text)
        version = int(loose["format"])
    except (ValueError, KeyError, TypeError) as exc:
        raise BrokenArchive(f"{ABOUT} does not say which format the archive has; is it a backup of clawlama?") from exc
    if version > FORMAT:
        raise BackupError(
            f"the archive has format {version}, this clawlama reads up to {FORMAT}: "
            f"it was made by a newer one ({loose.get('clawlama', 'unknown')}); install that version to restore it"
        )
    try:
        about = About.model_validate(loose)
    except ValidationError as exc:
        raise BrokenArchive(f"{ABOUT} does not parse: {exc.error_count()} errors") from exc
    check_schema(about.journal_schema)
    return about


def check_schema(revision: str | None) -> None:
    """Revisions are numbered with leading zeros, so a later one sorts later."""
    if revision is not None and revision > SCHEMA:
        raise BackupError(
            f"the archive's journal has schema {revision}, this clawlama knows up to {SCHEMA}: "
            "it was made by a newer one; install that version to restore it"
        )


def parse_manifest(text: bytes) -> Manifest:
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as exc:
        raise BrokenArchive(f"{MANIFEST} does not parse: {exc.error_count()} errors") from exc
