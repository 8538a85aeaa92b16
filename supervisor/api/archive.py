"""A folder as a ZIP, made while it is sent: nothing is held in memory or written to disk."""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

BLOCK = 1024 * 1024  # bytes


class Pipe(io.RawIOBase):
    """Takes what the archiver writes, gives it away in between. Not seekable, so sizes follow the data."""

    def __init__(self) -> None:
        self._written = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._written += data
        return len(data)

    def take(self) -> bytes:
        taken, self._written = bytes(self._written), bytearray()
        return taken


def zipped(folder: Path) -> Iterator[bytes]:
    """The files directly in ``folder``, stored: weights do not compress."""
    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.iterdir()):
            entry = zipfile.ZipInfo.from_file(path, path.name, strict_timestamps=False)
            with path.open("rb") as source, archive.open(entry, "w") as target:
                while block := source.read(BLOCK):
                    target.write(block)
                    yield pipe.take()
    yield pipe.take()
