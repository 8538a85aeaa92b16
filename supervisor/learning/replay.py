"""Which earlier feedback a lesson repeats, so that a few new replies do not outweigh all that was learned before."""

import random
from collections.abc import Iterator

from supervisor.adapters.store import AdapterStore, AdapterVersion
from supervisor.errors import AdapterError
from supervisor.journal.journal import Journal
from supervisor.journal.records import Feedback

LOOK_BACK = 64  # versions; each is a manifest to read


async def earlier(
    journal: Journal, adapters: AdapterStore, parent: AdapterVersion, *, count: int, key: str
) -> list[Feedback]:
    """At most ``count`` pieces, drawn from the lessons that the parent version is made of: what was undone stays so.

    The draw depends on ``key`` alone, so that a lesson that was interrupted is the same again.
    """
    known: list[Feedback] = []
    for version in line_of(adapters, parent):
        if version.manifest.lesson_id is not None:
            known += await journal.feedback_of(version.manifest.lesson_id)
    return random.Random(key).sample(known, min(count, len(known)))  # noqa: S311 - a draw, no secret


def line_of(adapters: AdapterStore, version: AdapterVersion) -> Iterator[AdapterVersion]:
    """The version, its parent, and so on, as far as they are there still."""
    for _ in range(LOOK_BACK):
        yield version
        if version.manifest.parent is None:
            return
        try:
            version = adapters.version(version.manifest.adapter, version.manifest.parent)
        except AdapterError:
            return
