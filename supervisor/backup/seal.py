"""The last 48 bytes of an archive: a SHA-256 of all bytes before them.

They are a zstd frame of the kind that readers skip, so `zstd` and `tar` read the archive as ever. With them any change
of any bit is found, also of bits that mean nothing to zstd, and a missing end is known for one.
"""

import hashlib
import struct
from typing import Protocol

from supervisor.errors import BrokenArchive

FRAME = struct.pack("<II", 0x184D2A5C, 40)  # "skippable frame", and how many bytes it has
TAG = b"clawlama"
LENGTH = len(FRAME) + len(TAG) + hashlib.sha256().digest_size
CHUNK = 2**20


class Sink(Protocol):
    def write(self, data: bytes, /) -> int: ...


class Source(Protocol):
    def read(self, size: int, /) -> bytes: ...


class SealedWriter:
    """Passes bytes on, and adds their seal."""

    def __init__(self, sink: Sink) -> None:
        self.size = 0
        self._sink = sink
        self._digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self._digest.update(data)
        self.size += len(data)
        view = memoryview(data)
        while view:
            view = view[self._sink.write(view) :]  # type: ignore[arg-type]  # any buffer will do
        return len(data)

    def seal(self) -> None:
        self.write(FRAME + TAG + self._digest.digest())


class SealedReader:
    """Passes on what stands before the seal; ``check`` reads the rest and compares."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._digest = hashlib.sha256()
        self._held = b""  # the last bytes that were read: the seal, should no others come

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes, none at the end."""
        while fresh := self._source.read(size):
            both = self._held + fresh
            given, self._held = both[:-LENGTH], both[-LENGTH:]
            if given:
                self._digest.update(given)
                return given
        return b""

    def check(self) -> None:
        """BrokenArchive when the archive is not, to the last bit, what was written."""
        while self.read(CHUNK):
            pass
        if not self._held.startswith(FRAME + TAG) or len(self._held) < LENGTH:
            raise BrokenArchive("the archive's end is missing: it was cut short, or clawlama did not write it")
        if self._held[-self._digest.digest_size :] != self._digest.digest():
            raise BrokenArchive("the archive is damaged: its bytes are not those that were written")
