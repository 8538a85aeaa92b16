"""Keeping the base model's weights readable while a lesson uses them, whatever the server prunes meanwhile."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from supervisor.engines.ollama.store import unreadable


@contextmanager
def pinned(blob: Path, folder: Path) -> Iterator[Path]:
    """A path to these weights that stays good for the block. StoreError when they cannot be read.

    On one file system it is a second link in ``folder`` (ours alone: what lies there from an earlier life goes), which
    a deleted blob leaves whole. Elsewhere it is the blob itself: our own base tag mentions it, so the server keeps it
    when its model is removed or pulled anew.
    """
    path = secured(blob, folder)
    try:
        yield path
    finally:
        if path != blob:
            path.unlink(missing_ok=True)


def secured(blob: Path, folder: Path) -> Path:
    try:
        blob.open("rb").close()
    except OSError as exc:
        raise unreadable(blob, exc) from exc
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.iterdir():
        leftover.unlink()
    link = folder / f"{blob.name}.gguf"
    try:
        link.hardlink_to(blob)
    except OSError:  # another file system, or a kernel that lets only the owner link
        return blob
    return link
