"""One file from a server, whole and checked: what has come stays in a ``.part`` file and is never fetched twice.

The name of what is kept is its checksum, so nothing else is believed: no dates, no tags of the server.
"""

import errno
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import anyio
import httpx
import structlog
from anyio import from_thread, to_thread

from supervisor.errors import PackError
from supervisor.packs.pack import PackFile

BLOCK = 2**18  # bytes written at once, in a thread: a busy disk must not keep the event loop waiting
ATTEMPTS = 6  # in a row without one new byte; with the pauses below they take half a minute
LONGEST_PAUSE = 30.0  # seconds
HOPELESS = {400, 401, 403, 404, 410, 451}  # asking again changes nothing

log: structlog.stdlib.BoundLogger = structlog.get_logger()

Came = Callable[[int], None]  # that many bytes are there; less than before when a download starts again


class Broken(Exception):
    """This attempt came to nothing; another may not."""


@dataclass(frozen=True)
class Download:
    """``where`` is asked at each attempt: an index may name another address by then."""

    client: httpx.AsyncClient
    file: PackFile
    where: Callable[[], Awaitable[str]]
    folder: Path
    came: Came
    first_pause: float = 1.0  # seconds

    @property
    def done(self) -> Path:
        return self.folder / str(self.file.sha256)

    @property
    def part(self) -> Path:
        return self.folder / f"{self.file.sha256}.part"

    async def run(self) -> Path:
        """The file, checked. Raises PackError with the remedy; what came stays for the next time."""
        fruitless = wrong = 0
        while not self.done.exists():
            had = size_of(self.part)
            try:
                await self._attempt()
            except (Broken, httpx.RequestError, httpx.InvalidURL) as exc:
                fruitless = 0 if size_of(self.part) > had else fruitless + 1
                if fruitless >= ATTEMPTS:
                    raise PackError(f"{self.file.name} cannot be downloaded: {said(exc)}; check the network") from exc
                pause = min(self.first_pause * 2 ** max(0, fruitless - 1), LONGEST_PAUSE)
                log.info("download broke off", file=self.file.name, problem=said(exc), again_in=pause)
                await anyio.sleep(pause)
            except OSError as exc:
                raise PackError(f"{self.file.name} cannot be written: {exc.strerror}; {remedy(exc)}") from exc
            else:
                wrong += not self.done.exists()
                if wrong > 1:
                    raise PackError(
                        f"{self.file.name} has another checksum than this version of clawlama knows, twice; it is not "
                        "used. Somebody changes it on the way: ask whoever runs your network or package index"
                    )
        self.came(self.file.size or 0)
        return self.done

    async def _attempt(self) -> None:
        """Fetch what is missing, and look at the whole. A wrong one is thrown away."""
        if size_of(self.part) != self.file.size:
            await self._fetch()
        if await to_thread.run_sync(checksum, self.part) == self.file.sha256:
            await to_thread.run_sync(settle, self.part, self.done)
        else:
            self.part.unlink()
            self.came(0)

    async def _fetch(self) -> None:
        async with self._answer(size_of(self.part)) as (answer, start):
            with await to_thread.run_sync(open_at, self.part, start) as target:
                count = await self._pour(answer, target, start)
        if count != self.file.size:
            if count > (self.file.size or 0):
                self.part.unlink()
            raise Broken(f"the server sent {count} bytes of {self.file.size}")

    async def _pour(self, answer: httpx.Response, target: BinaryIO, start: int) -> int:
        """Bytes that are there then, as far as they are wanted. However it ends, what came is written."""
        count, waiting = start, bytearray()
        try:
            self.came(count)
            async for piece in answer.aiter_raw():
                count += len(piece)
                waiting += piece
                if count > (self.file.size or 0):
                    break
                self.came(count)
                if len(waiting) >= BLOCK:
                    block = bytes(waiting)
                    waiting.clear()
                    await to_thread.run_sync(append, target, block)
        finally:
            append(target, bytes(waiting))
        return count

    @asynccontextmanager
    async def _answer(self, have: int) -> AsyncIterator[tuple[httpx.Response, int]]:
        """What the server sends, and from which byte on."""
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        async with self.client.stream("GET", await self.where(), headers=headers) as answer:
            if answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                self.part.unlink(missing_ok=True)
                raise Broken("the server has less of it than came before")
            if answer.status_code in HOPELESS:
                raise PackError(
                    f"{self.file.name} cannot be downloaded: {answer.url.host} answers {answer.status_code}; "
                    "it may have been removed: a newer version of clawlama knows another"
                )
            if not answer.is_success:
                raise Broken(f"{answer.url.host} answers {answer.status_code}")
            yield answer, have if goes_on(answer, have) else 0


def goes_on(answer: httpx.Response, have: int) -> bool:
    """Whether the answer begins where our part ends; a server that knows no ranges sends everything again."""
    told = answer.headers.get("content-range", "")
    return answer.status_code == httpx.codes.PARTIAL_CONTENT and told.startswith(f"bytes {have}-")


def open_at(path: Path, start: int) -> BinaryIO:
    """For appending after ``start`` bytes."""
    target = path.open("ab")
    if target.tell() != start:
        target.truncate(start)
    return target


def append(target: BinaryIO, block: bytes) -> None:
    target.write(block)
    target.flush()  # a kill from here on loses nothing of it


def size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def checksum(path: Path) -> str:
    """SHA-256 in hexadecimal; in a worker thread, which can be called off between two blocks."""
    seen = hashlib.sha256()
    with path.open("rb") as source:
        while block := source.read(BLOCK):
            seen.update(block)
            from_thread.check_cancelled()
    return seen.hexdigest()


def settle(part: Path, done: Path) -> None:
    """From now on it counts as there, also after the power went."""
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.rename(done)


def said(error: Exception) -> str:
    return str(error) or type(error).__name__


def remedy(error: OSError) -> str:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return "make room on the disk of the data folder; what came is kept"
    return "make the data folder writable for this user"
