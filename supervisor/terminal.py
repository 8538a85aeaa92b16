"""A stderr that never keeps us waiting: a terminal that was halted (Ctrl-S), or a pipe that nobody reads, loses lines.

Written to directly, it would stop the event loop, and with it the API and every service.
"""

import io
import os
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from select import select
from threading import Condition, Thread
from typing import Final, TextIO

WAITING: Final = 4_000_000  # characters that may wait to be shown
LEAVE_WITHIN: Final = 1.0  # seconds for what still waits at the end


@contextmanager
def patient_stderr() -> Iterator[None]:
    """Whatever is printed to stderr in the block is handed to a thread that shows it."""
    real = sys.stderr
    sys.stderr = shown = Unhurried(real)
    try:
        yield
    finally:
        sys.stderr = real
        shown.leave()


class Unhurried(io.TextIOBase):
    """Takes text at once; a thread of its own writes it to ``stream``."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._waiting: deque[str] = deque()
        self._size = 0  # characters that wait
        self._lost = 0  # lines
        self._leaving = False
        self._news = Condition()
        self._thread = Thread(target=self._show, name="stderr", daemon=True)
        self._thread.start()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def write(self, text: str) -> int:
        if not self._thread.is_alive():  # we have left
            self._put(text)
            return len(text)
        with self._news:
            if self._size + len(text) > WAITING:
                self._lost += text.count("\n")
            else:
                if self._lost:
                    text = f"[{self._lost} lines were not shown: nobody read them]\n{text}"
                    self._lost = 0
                self._waiting.append(text)
                self._size += len(text)
                self._news.notify()
        return len(text)

    def leave(self) -> None:
        """Return when all is shown, or nobody reads it."""
        with self._news:
            self._leaving = True
            self._news.notify()
        self._thread.join(LEAVE_WITHIN)

    def _show(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._waiting or self._leaving)
                if not self._waiting:
                    return
                text = self._waiting.popleft()
            self._put(text)
            with self._news:
                self._size -= len(text)

    def _put(self, text: str) -> None:
        """Past the stream's own buffer, whose lock a thread that never returns would keep to the end."""
        rest = text.encode(self.encoding, errors="replace")
        try:
            descriptor = self.fileno()
            while rest:
                select([], [descriptor], [])
                rest = rest[os.write(descriptor, rest) :]
        except (OSError, ValueError):
            return  # the terminal was closed: there is nobody to tell
