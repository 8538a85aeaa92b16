"""What children print: line by line to the terminal, to a rotated file, and into a short memory.

Lines are handled in blocks of up to 64 KiB on the event loop, without a task or a thread, so that a
child that floods us costs little and is slowed by its own pipe when it writes faster than we read.
"""

import asyncio
import os
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise
from json.encoder import encode_basestring
from pathlib import Path
from typing import Final, TextIO
from zlib import crc32

import structlog

from supervisor.log import stamp

BLOCK: Final = 65536  # bytes; the default size of a pipe
LONGEST_LINE: Final = 8192  # characters; what is beyond is cut
MARGIN: Final = 4096  # bytes; a secret that lies across the cut is seen, and redacted, whole
CUT: Final = " […]"
TAIL: Final = 200  # lines
RECENT: Final = 10  # lines of a service that the terminal shows once only
DRAINS: Final = 32  # blocks read at the end of a process, in case somebody else still fills the pipe

# Terminal controls, colours and titles, which a child must not play on our terminal; tab and newline pass.
CONTROL_BYTES: Final = bytes(range(9)) + b"\x0b\x0c" + bytes(range(0x0E, 0x1B)) + bytes(range(0x1C, 0x20)) + b"\x7f"
ESCAPES: Final = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\n]*(?:\x07|\x1b\\)?|[ -/]*[0-~])?")
COLOURS: Final = (36, 32, 33, 35, 34, 96)

Sink = Callable[[str, Sequence[str]], None]  # (name of the service, its lines)

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class LogFile:
    """A file that is renamed to ``name.1``, ``name.2`` … as it grows; made 0600, lines stamped with UTC."""

    def __init__(self, path: Path, *, limit: int = 10_000_000, files: int = 3) -> None:
        """``limit`` is in bytes, for each of ``files`` files, the current one included."""
        self.path = path
        self._limit = limit
        self._files = files
        self._descriptor: int | None = None
        self._size = 0
        self._broken = False

    def write(self, lines: Sequence[str]) -> None:
        """Append; a full or read-only disk costs the lines, never the service, and is logged once."""
        try:
            self._append(lines, f"{stamp()} ")
        except OSError as exc:
            told, self._broken = self._broken, True  # first: our own warnings may go to this very file
            if not told:
                log.warning("log file cannot be written; its lines are lost", path=str(self.path), reason=str(exc))
            self.close()
        else:
            self._broken = False

    def close(self) -> None:
        """Release the file; the next write opens it again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _append(self, lines: Sequence[str], prefix: str) -> None:
        block = "".join([f"{prefix}{line}\n" for line in lines]).encode(errors="replace")
        if len(block) > self._limit and len(lines) > 1:
            half = len(lines) // 2
            self._append(lines[:half], prefix)
            self._append(lines[half:], prefix)
            return
        descriptor = self._opened()
        if self._size and self._size + len(block) > self._limit:
            self._rotate()
            descriptor = self._opened()
        rest = block
        try:
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        except OSError:
            with suppress(OSError):  # a file that cannot be cut is none that is read back
                os.ftruncate(descriptor, self._size)  # a full disk took a part: no torn line stays
            raise
        self._size += len(block)

    def _opened(self) -> int:
        if self._descriptor is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            self._size = os.fstat(self._descriptor).st_size
        return self._descriptor

    def _rotate(self) -> None:
        self.close()
        kept = [self.path, *(Path(f"{self.path}.{n}") for n in range(1, self._files))]
        for younger, older in reversed(list(pairwise(kept))):
            if younger.exists():
                younger.replace(older)
        if self._files == 1:
            self.path.unlink(missing_ok=True)


class Output:
    """Where the lines of one service go. Lives as long as the service, across restarts of its process."""

    def __init__(
        self,
        name: str,
        *,
        file: LogFile | None = None,
        terminal: Sink | None = None,
        redact: Callable[[str], str] | None = None,
    ) -> None:
        """``redact`` gets several whole lines at once and must keep the line breaks."""
        self.name = name
        self.tail: deque[str] = deque(maxlen=TAIL)
        self.listeners: list[Callable[[Sequence[str]], None]] = []  # get the lines, too
        self._file = file
        self._terminal = terminal
        self._redact = redact
        self._rest = b""
        self._skipping = False  # the rest of a line that was cut

    def feed(self, data: bytes) -> None:
        """Take bytes as they come from a pipe; lines leave when they are whole."""
        if self._skipping:
            _, newline, data = data.partition(b"\n")
            self._skipping = not newline
        whole, newline, rest = (self._rest + data).rpartition(b"\n")
        self._rest = rest[rest.rfind(b"\r", 0, -1) + 1 :]  # a progress bar redrawn in place
        if newline:
            self._emit(whole)
        if len(self._rest) > 4 * LONGEST_LINE + MARGIN:  # bytes; no character of UTF-8 is longer than four
            self._emit(self._rest)
            self._rest, self._skipping = b"", True

    def finish(self) -> None:
        """The process has ended: the unfinished line leaves too, and the file is closed."""
        if self._rest:
            self._emit(self._rest)
        self._rest, self._skipping = b"", False
        if self._file is not None:
            self._file.close()

    def _emit(self, whole: bytes) -> None:
        text = readable(whole)
        lines = (text if self._redact is None else self._redact(text)).split("\n")
        lines = [line if len(line) <= LONGEST_LINE else line[:LONGEST_LINE] + CUT for line in lines]
        self.tail.extend(lines[-TAIL:])
        for listen in self.listeners:
            listen(lines)
        if self._file is not None:
            self._file.write(lines)
        if self._terminal is not None:
            self._terminal(self.name, lines)


def readable(raw: bytes) -> str:
    """Text without terminal controls; of a line redrawn with carriage returns, its last state."""
    if b"\r" in raw:
        raw = b"\n".join(line.rstrip(b"\r").rpartition(b"\r")[2] for line in raw.split(b"\n"))
    if b"\x1b" in raw:
        raw = ESCAPES.sub(b"", raw)
    return raw.translate(None, CONTROL_BYTES).decode(errors="replace")


def terminal_sink(stream: TextIO, *, width: int = 10) -> Sink:
    """Lines prefixed with the service's name, in a colour of its own where ``stream`` is a terminal.

    What a service has just said is not shown again: some warn about the same thing at every request.
    """
    colourful = stream.isatty()
    recent: dict[str, deque[str]] = {}

    def show(name: str, lines: Sequence[str]) -> None:
        said = recent.setdefault(name, deque(maxlen=RECENT))
        if not (lines := [line for line in lines if not line or line not in said]):
            return
        said.extend(lines)
        prefix = f"{name:<{width}} │ "
        if colourful:
            prefix = f"\x1b[{COLOURS[crc32(name.encode()) % len(COLOURS)]}m{prefix}\x1b[0m"
        try:
            stream.write(prefix + f"\n{prefix}".join(lines) + "\n")
            stream.flush()
        except (OSError, ValueError):
            return  # the terminal was closed: there is nobody to tell, and the file has the lines

    return show


def json_sink(stream: TextIO) -> Sink:
    """One object per line, for programs: ``{"time": …, "service": …, "line": …}``."""

    def show(name: str, lines: Sequence[str]) -> None:
        before = f'{{"time": "{stamp()}", "service": {encode_basestring(name)}, "line": '
        try:
            stream.write("".join([f"{before}{encode_basestring(line)}}}\n" for line in lines]))
            stream.flush()
        except (OSError, ValueError):
            return  # as above

    return show


@contextmanager
def collecting(output: Output) -> Iterator[int]:
    """The write end of a pipe, for a child's stdout and stderr; what is written there feeds ``output``.

    When the block ends the pipe is emptied and closed, whoever may still hold its other end.
    """
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    loop = asyncio.get_running_loop()
    loop.add_reader(reader, _feed_block, reader, output)
    try:
        yield writer
    finally:
        loop.remove_reader(reader)
        for _ in range(DRAINS):
            if not _feed_block(reader, output):
                break
        os.close(writer)
        os.close(reader)
        output.finish()


def _feed_block(reader: int, output: Output) -> bool:
    try:
        data = os.read(reader, BLOCK)
    except BlockingIOError:
        return False
    output.feed(data)
    return True
