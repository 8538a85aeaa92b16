"""Reads a file that may change under our hands, or become something else."""

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from supervisor.errors import BackupError


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """A regular file and nothing else, whatever took its place meanwhile. FileNotFoundError when it is none."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as exc:
        if exc.errno in {errno.ELOOP, errno.ENXIO}:
            raise FileNotFoundError(exc.errno, "is no file any more", str(path)) from exc
        raise
    with os.fdopen(handle, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise FileNotFoundError(errno.ENOENT, "is no file any more", str(path))
        yield file


class Reading:
    """A file of the length that it had when its turn came; hashes what it gives."""

    def __init__(self, path: Path, source: IO[bytes], size: int, step: Callable[[int], None]) -> None:
        self.digest = hashlib.sha256()
        self.padded = 0
        self._path = path
        self._source = source
        self._left = size
        self._step = step

    def read(self, size: int) -> bytes:
        size = min(size, self._left)
        given = self._read(size)
        while len(given) < size:
            more = self._read(size - len(given))
            if not more:
                self.padded += size - len(given)
                more = bytes(size - len(given))
            given += more
        self._left -= size
        self.digest.update(given)
        self._step(size)
        return given

    def _read(self, size: int) -> bytes:
        try:
            return self._source.read(size)
        except OSError as exc:
            raise BackupError(f"{self._path} cannot be read: {exc.strerror}; is its disk in order?") from exc
