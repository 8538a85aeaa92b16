"""What we made in Ollama's store, remembered in our own folder: only that is ever replaced or removed by us.

A tag is written down before it is made, so that a death in between leaves nothing that we do not know of.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import structlog
from pydantic import BaseModel, ValidationError

from supervisor.render.write import write_atomically

RouteName = Literal["create", "manifest", "merge"]

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Made(BaseModel, frozen=True, extra="forbid"):
    """One tag of ours. Two that were made of the same parts are equal in ``parts``."""

    base: str
    """Digest of the base model's manifest."""
    adapter: str | None
    """SHA-256 of the adapter file; None: the bare base with our parameters."""
    parameters: dict[str, int]
    route: RouteName | None
    """None: not finished."""
    digest: str | None = None
    """Of the tag's manifest, as the server reports it."""
    blobs: tuple[str, ...] = ()
    """Digests of what was added to the store for it, as far as we know."""

    def same_parts(self, other: "Made") -> bool:
        return (self.base, self.adapter, self.parameters) == (other.base, other.adapter, other.parameters)


class _Content(BaseModel, extra="forbid"):
    schema_version: Literal[1] = 1
    routes: dict[str, RouteName] = {}
    tags: dict[str, Made] = {}


class Record:
    """The file is written, and on the disk, before a method returns. RenderError when that is not possible."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._content = load(path)

    @property
    def tags(self) -> dict[str, Made]:
        return dict(self._content.tags)

    def note(self, tag: str, made: Made) -> None:
        self._content.tags[tag] = made
        self._save()

    def forget(self, tags: Iterable[str]) -> None:
        for tag in tags:
            self._content.tags.pop(tag, None)
        self._save()

    def route(self, server: str) -> RouteName | None:
        """What worked last with this server in this version."""
        return self._content.routes.get(server)

    def remember(self, server: str, route: RouteName | None) -> None:
        if route is None:
            self._content.routes.pop(server, None)
        else:
            self._content.routes[server] = route
        self._save()

    def _save(self) -> None:
        write_atomically(self.path, self._content.model_dump_json(indent=2) + "\n")


def load(path: Path) -> _Content:
    try:
        return _Content.model_validate_json(path.read_text())
    except FileNotFoundError:
        return _Content()
    except (ValidationError, UnicodeDecodeError) as exc:
        log.warning(
            "record of what we made in Ollama is not readable; starting a new one", file=str(path), why=str(exc)
        )
        return _Content()
