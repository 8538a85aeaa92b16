"""Reads back what ``LogFile`` writes: the last lines of any number of services, in order of time, and then new ones.

Works on the files alone, whether their writer lives or not, and follows them through rotation.
"""

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from heapq import merge
from pathlib import Path
from typing import Final

from supervisor.errors import MachineError, NothingLogged
from supervisor.services.output import BLOCK

STAMP: Final = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ")
AT_ONCE: Final = 16 * BLOCK  # bytes of a service that one call of ``fresh`` takes


@dataclass(frozen=True, slots=True)
class Line:
    """``time`` is UTC as ISO 8601, so that it sorts as text."""

    time: str
    service: str
    line: str

    def __str__(self) -> str:
        return f"{self.time} {self.service:<10} │ {self.line}"

    def as_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)


def logged_services(folder: Path) -> tuple[str, ...]:
    """Who has a log there. A program's own log file in some other form does not count."""
    return tuple(sorted(path.stem for path in folder.glob("*.log") if _is_ours(path)))


class Logs:
    """The logs of some services from one moment on: ``last`` tells what was before it, ``fresh`` what came since."""

    def __init__(self, folder: Path, services: Sequence[str] = ()) -> None:
        """No services: all, and those too that begin to log later. NothingLogged for one that has no log."""
        self._folder = folder
        self._all = not services
        known = logged_services(folder)
        for name in services:
            if name not in known:
                raise NothingLogged(name, known)
        self._logs = {name: _Log(folder / f"{name}.log", at_end=True) for name in services or known}

    def last(self, count: int) -> list[Line]:
        """The newest ``count`` lines of all of them together, oldest first."""
        tails = [log.tail(count) for log in self._logs.values()]
        return list(merge(*tails, key=_time))[-count:] if count else []

    def fresh(self) -> list[Line]:
        """What has come since the last call, oldest first; after a flood a part of it."""
        if self._all:
            for name in logged_services(self._folder):
                if name not in self._logs:
                    self._logs[name] = _Log(self._folder / f"{name}.log", at_end=False)
        return list(merge(*(log.fresh() for log in self._logs.values()), key=_time))

    def close(self) -> None:
        for log in self._logs.values():
            log.close()


class _Log:
    """One service's files, read from a place that moves on."""

    def __init__(self, path: Path, *, at_end: bool) -> None:
        self._path = path
        self._file = _opened(path)
        self._at = 0  # bytes of the file that were read
        if at_end and self._file is not None:
            size = os.fstat(self._file).st_size
            whole = os.pread(self._file, BLOCK, max(0, size - BLOCK)).rpartition(b"\n")
            self._at = size - len(whole[2])  # a line that is just being written is not read yet

    def tail(self, count: int) -> list[Line]:
        """The last lines before that place, from older files too, oldest first."""
        if self._file is None:
            return []
        raw = _last_lines(self._file, self._at, count)
        seen = {os.fstat(self._file).st_ino}
        for path in _older(self._path):
            if len(raw) >= count or (file := _opened(path)) is None:
                break
            try:
                state = os.fstat(file)
                if state.st_ino not in seen:  # else it was renamed while we looked
                    raw = _last_lines(file, state.st_size, count - len(raw)) + raw
                    seen.add(state.st_ino)
            finally:
                os.close(file)
        return list(self._parsed(raw))

    def fresh(self) -> list[Line]:
        if self._file is None and (file := _opened(self._path)) is not None:
            self._file, self._at = file, 0
        if self._file is None:
            return []
        follower = self._next_file()  # asked before the reading: once there is one, nobody adds to ours
        self._at = min(self._at, os.fstat(self._file).st_size)  # somebody may have emptied it
        data = os.pread(self._file, AT_ONCE, self._at)
        whole, newline, _ = data.rpartition(b"\n")
        self._at += len(whole) + len(newline)
        if follower is not None:
            if data:
                os.close(follower)
            else:
                os.close(self._file)
                self._file, self._at = follower, 0
                return self.fresh()
        return list(self._parsed(whole.split(b"\n") if newline else []))

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _next_file(self) -> int | None:
        """The file that was begun after ours, if there is one; the oldest that is left, if ours is gone."""
        assert self._file is not None
        mine = os.fstat(self._file).st_ino
        later: int | None = None
        for path in (self._path, *_older(self._path)):  # newest first
            file = _opened(path)
            if file is None:
                continue
            if os.fstat(file).st_ino == mine:
                os.close(file)
                return later
            if later is not None:
                os.close(later)
            later = file
        return later

    def _parsed(self, raw: Sequence[bytes]) -> Iterator[Line]:
        time = ""
        for one in raw:
            text = one
            if STAMP.match(one):
                stamped, _, text = one.partition(b" ")
                time = stamped.decode()
            yield Line(time, self._path.stem, text.decode(errors="replace"))


def _time(line: Line) -> str:
    return line.time


def _older(path: Path) -> Iterator[Path]:
    """The rotated files, newest first."""
    number = 1
    while (older := Path(f"{path}.{number}")).exists():
        yield older
        number += 1


def _opened(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    except PermissionError as exc:
        raise MachineError(f"{path} cannot be read: {exc.strerror}; read it as the user that it belongs to") from exc


def _is_ours(path: Path) -> bool:
    file = _opened(path)
    if file is None:
        return False
    try:
        return STAMP.match(os.pread(file, 32, 0)) is not None
    finally:
        os.close(file)


def _last_lines(file: int, end: int, count: int) -> list[bytes]:
    """The last ``count`` whole lines before the place ``end``, which stands after a line break."""
    data, at = b"", end
    while at > 0 and data.count(b"\n") <= count:
        size = min(BLOCK, at)
        at -= size
        data = os.pread(file, size, at) + data
    lines = data.split(b"\n")[:-1]
    return lines[-count:] if count else []
