"""One backup into a file: its name, room for it, and the archive."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from supervisor.backup.contents import BY_HAND, Wanted, walk
from supervisor.backup.create import Made, Options, Progress, write_archive
from supervisor.backup.destination import archive_path, check_room, new_file
from supervisor.settings.datadir import DataDir


@dataclass(frozen=True)
class Saved:
    path: Path
    made: Made


def save(
    data: DataDir, to: Path | None, options: Options, progress: Progress, *, home: Path, prefix: str = BY_HAND
) -> Saved:
    """Into the file ``to``, or into a file named by the moment in the folder ``to``; None: in the folder ``home``.

    Raises what ``write_archive`` does, BackupError also when the name is taken or the disk has no room.
    """
    path = archive_path(to, home, datetime.now(UTC), prefix)
    check_room(existing(path.parent), largest_archive(data, options.wanted), "make room, or save it on another disk")
    with new_file(path, data.root) as file:
        return Saved(path, write_archive(data, file, options, progress))


def largest_archive(data: DataDir, wanted: Wanted) -> int:
    """Bytes that nothing can make it exceed but what is written meanwhile: as if nothing could be compressed."""
    return sum(found.size for found in walk(data.root, wanted) if found.kind == "file")


def existing(folder: Path) -> Path:
    return folder if folder.exists() else existing(folder.parent)
