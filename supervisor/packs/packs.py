"""Installs what this machine wants, keeps it whole, and says where it lies."""

import fcntl
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TextIO

import anyio
import httpx
import structlog
from anyio import to_thread

from supervisor.adapters.store import sync_folder
from supervisor.errors import PackError
from supervisor.packs import installed
from supervisor.packs.address import address_of, default_index
from supervisor.packs.download import Download, size_of
from supervisor.packs.pack import Gives, Pack
from supervisor.packs.rate import Rate, size
from supervisor.packs.unpack import Unpacker

BAKED = Path("/opt/clawlama/packs")  # in images that bring them along
SPARE = 512 * 2**20  # bytes that stay free on the disk: a full one breaks more than a download
TIMEOUT = httpx.Timeout(30.0, connect=15.0)  # seconds without a byte
AGAIN_AFTER = (60.0, 300.0, 1800.0)  # seconds between attempts to install; the last one from then on
ASK_LOCK_EVERY = 0.5  # seconds

log: structlog.stdlib.BoundLogger = structlog.get_logger()


def free_on(folder: Path) -> int:
    return shutil.disk_usage(folder).free


@dataclass(frozen=True)
class PackSetup:
    """``home``: where packs are installed; ``others``: where they may lie too. ``wanted``: what lookups count."""

    home: Path
    index: str | None  # None: pip's own
    wanted: tuple[Pack, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)  # see Wanted
    others: tuple[Path, ...] = (BAKED,)
    keep_others: bool = False  # what gives the same as a pack that came: older versions, libraries for other drivers
    free: Callable[[Path], int] = free_on
    first_pause: float = 1.0  # seconds, after a download broke off
    again_after: Sequence[float] = AGAIN_AFTER

    @property
    def homes(self) -> tuple[Path, ...]:
        return (self.home, *self.others)


@dataclass
class Packs:
    """``progress`` says by a pack's name how far it is, or what is wrong; a pack that is there is not in it.

    What stays on the CPU for good although there is a GPU is in it too.
    """

    setup: PackSetup
    _progress: dict[str, str] = field(default_factory=dict, init=False)
    _problems: dict[str, str] = field(default_factory=dict, init=False)

    @property
    def progress(self) -> Mapping[str, str]:
        return {**self.setup.notes, **self._progress, **self._problems}

    @property
    def problem(self) -> str:
        """What keeps a wanted pack away and what to do; empty when nothing does."""
        return "; ".join(f"{name}: {problem}" for name, problem in self._problems.items())

    def ollama(self) -> Path | None:
        """The executable of an Ollama that finds its CUDA libraries; None: take the one that is there anyway."""
        folder = self._lies("ollama")
        return folder / "bin" / "ollama" if folder else None

    def python_path(self) -> Path | None:
        """The folder with a torch that knows CUDA."""
        return self._lies("torch")

    def lesson_environment(self, around: Mapping[str, str]) -> dict[str, str]:
        """``around``, and our torch before any other."""
        first = self.python_path()
        before = [around["PYTHONPATH"]] if around.get("PYTHONPATH") else []
        return {**around, **({"PYTHONPATH": os.pathsep.join([str(first), *before])} if first else {})}

    def _lies(self, gives: Gives) -> Path | None:
        found = (installed.find(pack, self.setup.homes) for pack in self.setup.wanted if pack.gives == gives)
        return next((folder for folder in found if folder), None)

    async def keep_installed(self, landed: Callable[[Pack], Awaitable[None]]) -> None:
        """Install what is wanted, one after the other, until all is there; ``landed`` is told of each that came.

        What fails is warned of once per reason and tried again; it never ends the caller.
        """
        for what, why in self.setup.notes.items():
            log.warning(what, problem=why)
        left, pauses = list(self.setup.wanted), iter(self.setup.again_after)
        pause = 0.0
        while left:
            for pack in tuple(left):
                if await self._tried(pack, landed):
                    left.remove(pack)
            pause = next(pauses, pause)
            if left:
                await anyio.sleep(pause)

    async def _tried(self, pack: Pack, landed: Callable[[Pack], Awaitable[None]]) -> bool:
        try:
            if await self.install(pack):
                log.info("pack installed", pack=pack.name, version=pack.version)
                await landed(pack)
        except PackError as exc:
            if self._problems.get(pack.name) != str(exc):
                log.warning(
                    "a GPU pack is not there; the CPU does the work meanwhile", pack=pack.name, problem=str(exc)
                )
            self._problems[pack.name] = str(exc)
            return False
        return True

    async def install(self, pack: Pack) -> bool:
        """Make it lie there whole; False when it did already. Raises PackError with the remedy; what came is kept."""
        self._progress[pack.name] = "looking at what is there"
        try:
            new = await self._made_whole(pack)
        except OSError as exc:
            raise PackError(
                f"{pack.name} cannot be installed in {self.setup.home}: {exc}; look at that folder"
            ) from exc
        finally:
            self._progress.pop(pack.name, None)
        self._problems.pop(pack.name, None)
        return new

    async def _made_whole(self, pack: Pack) -> bool:
        if await to_thread.run_sync(whole, pack, self.setup.homes):
            await to_thread.run_sync(self._tidy, pack)  # a kill may have come before that
            return False
        if pack.unpinned:
            raise PackError(
                f"the checksum of {pack.unpinned} ({pack.version}) is not known to this build, so it is "
                "not downloaded; take an image that was built with a release of Ollama"
            )
        async with self._alone(pack.name):
            if await to_thread.run_sync(whole, pack, self.setup.homes):  # another process was quicker
                return False
            await self._install(pack)
        return True

    async def _install(self, pack: Pack) -> None:
        downloads = self.setup.home / installed.DOWNLOADS
        self._check_room(pack, downloads)
        archives = await self._download(pack, downloads)
        await to_thread.run_sync(put_in_place, pack, archives, self.setup.home, partial(self._say, pack.name))
        await to_thread.run_sync(self._tidy, pack)

    def _tidy(self, pack: Pack) -> None:
        """Remove what a pack that is there needs no more: its archives, and what gave the same before."""
        downloads = self.setup.home / installed.DOWNLOADS
        for file in pack.files:
            for path in places(downloads, str(file.sha256)):
                path.unlink(missing_ok=True)
        with suppress(OSError):  # another pack's downloads are in it, or nothing ever was
            downloads.rmdir()
        if not self.setup.keep_others:
            installed.remove_others(self.setup.home, pack)

    def _check_room(self, pack: Pack, downloads: Path) -> None:
        have = sum(map(size_of, [path for one in pack.files for path in places(downloads, str(one.sha256))]))
        need, free = pack.download - have + pack.unpacked + SPARE, self.setup.free(self.setup.home)
        if free < need:
            raise PackError(
                f"{pack.name} needs {size(need)} on the disk of {self.setup.home}, and {size(free)} are free; "
                "make room, or do without with CLAWLAMA_GPU_PACKS=off"
            )

    async def _download(self, pack: Pack, folder: Path) -> list[Path]:
        rate, archives, before = Rate(pack.download), [], 0
        async with httpx.AsyncClient(timeout=TIMEOUT, follow_redirects=True) as client:
            for file in pack.files:
                came = partial(self._came, pack.name, rate, before)
                where = partial(address_of, client, file, self.setup.index or default_index())
                archives.append(
                    await Download(client, file, where, folder, came, first_pause=self.setup.first_pause).run()
                )
                before += file.size or 0
        return archives

    def _say(self, name: str, doing: str) -> None:
        self._progress[name] = doing

    def _came(self, name: str, rate: Rate, before: int, count: int) -> None:
        rate.take(before + count, anyio.current_time())
        self._progress[name] = str(rate)

    @asynccontextmanager
    async def _alone(self, name: str) -> AsyncIterator[None]:
        """Hold the folder of packs: two processes would download the same twice. The kernel lets go when we die."""
        with open_lock(self.setup.home) as lock:
            while not locked(lock):  # nothing announces that another process let go
                self._progress[name] = "waiting for another clawlama that installs packs here"
                await anyio.sleep(ASK_LOCK_EVERY)
            yield


def whole(pack: Pack, homes: Sequence[Path]) -> bool:
    """Whether it lies there with every file. A broken one is not used any more, if it is ours to say so."""
    for home in homes:
        if (folder := installed.find(pack, [home])) is None:
            continue
        if not (name := installed.lost(folder)):
            return True
        log.info("a pack is broken, and installed again", pack=pack.name, missing=name)
        if home == homes[0]:
            installed.remove(folder)
    return False


def put_in_place(pack: Pack, archives: Sequence[Path], home: Path, tell: Callable[[str], None]) -> None:
    """Unpack beside its place, and move it there in one step once all of it is on the disk."""
    staging, place = home / installed.STAGING, home / pack.folder
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    try:
        unpacker, written = Unpacker(staging, pack.unpacked), 0
        for archive, file in zip(archives, pack.files, strict=True):
            tell(f"unpacking, {100 * written // pack.unpacked} %")
            written = unpacker.unpack(archive, file, written)
        installed.write_record(pack, staging)
        sync_folders(staging)
        shutil.rmtree(place, ignore_errors=True)
        staging.rename(place)
        sync_folder(home)
    except OSError as exc:
        raise PackError(f"{pack.name} cannot be installed: {exc.strerror}; make room in {home}") from exc
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def sync_folders(root: Path) -> None:
    """The files' contents are on the disk already; from now on their names are too."""
    for folder in [root, *(path for path in root.rglob("*") if path.is_dir() and not path.is_symlink())]:
        sync_folder(folder)


def places(downloads: Path, checksum: str) -> tuple[Path, Path]:
    """Where a download lies when it is whole, and while it is not."""
    return downloads / checksum, downloads / f"{checksum}.part"


def open_lock(home: Path) -> TextIO:
    try:
        (home / installed.DOWNLOADS).mkdir(parents=True, exist_ok=True)
        return (home / "lock").open("a")
    except OSError as exc:
        raise PackError(
            f"{home} is not writable ({exc.strerror}); make the data folder writable for this user"
        ) from exc


def locked(lock: TextIO) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
