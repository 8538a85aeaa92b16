"""Writes an archive while everything runs: databases by SQLite's own backup, all else as it lies there.

The journal is saved first. What is in it was done before, so the versions that it names are there when their turn
comes; a version that it does not know yet is what a crash between the two leaves, which every start can deal with.
"""

import fcntl
import os
import platform
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version as package_version
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

import zstandard

from supervisor.backup.contents import MODELS, PACKS, PEOPLES, Found, Wanted, link_problem, name_problem, walk
from supervisor.backup.databases import NoDatabase, copy_database, is_database, is_side_file, journal_schema
from supervisor.backup.destination import give_to_owner
from supervisor.backup.manifest import (
    ABOUT,
    DATA,
    LONGEST_MANIFEST,
    MANIFEST,
    MOST_MEMBERS,
    About,
    Entry,
    Machine,
    Manifest,
    Remark,
)
from supervisor.backup.models import references
from supervisor.backup.reading import Reading, opened
from supervisor.backup.seal import CHUNK, SealedWriter, Sink
from supervisor.errors import AlreadyRunning, BackupError, MachineError
from supervisor.identity import refusal
from supervisor.settings.datadir import DataDir

LEVEL = 1  # measured: 5 % larger than 3, for half the processor time, which serving wants
SMALL = 4 * CHUNK  # bytes; up to here a file is read before its length is written down

Progress = Callable[[int, int], None]
"""Told how many bytes are done, of how many."""


@dataclass(frozen=True)
class Options:
    wanted: Wanted = field(default_factory=Wanted)
    models: Path | None = None  # Ollama's models folder; None: the one in the data folder
    threads: int = -1  # that compress; -1: one per core


@dataclass(frozen=True)
class Made:
    """What became of a backup. ``size`` is the archive's, ``manifest`` says what is in it; sizes in bytes."""

    manifest: Manifest
    size: int

    @property
    def data_size(self) -> int:
        return sum(entry.size for entry in self.manifest.entries)


def write_archive(data: DataDir, sink: Sink, options: Options, progress: Progress) -> Made:
    """Everything worth keeping into ``sink``. BackupError when something cannot be saved, OSError from the sink.

    AlreadyRunning while another backup of this folder, or a restore, is at work.
    """
    if not data.root.is_dir():
        raise BackupError(f"there is no data folder {data.root}; name one with CLAWLAMA_DATA or --data")
    with saving(data) as scratch:
        return _Archive(data, sink, options, progress, scratch).write()


def accessible(data: DataDir) -> None:
    """MachineError, with both ways out, when the folder is somebody else's."""
    for folder in (data.root, data.run):
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            raise MachineError(refusal(folder))
        data.run.mkdir(mode=0o700, exist_ok=True)


@contextmanager
def saving(data: DataDir) -> Iterator[Path]:
    """The one backup of this folder; yields an empty folder for copies, gone when the block ends."""
    accessible(data)
    path = data.run / "backup.lock"
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise AlreadyRunning(f"another backup or restore of {data.root} is at work; wait for its end") from exc
        give_to_owner(path, data.root)
        for leftover in data.run.glob("backup-*"):
            shutil.rmtree(leftover)
        with TemporaryDirectory(prefix="backup-", dir=data.run) as scratch:
            yield Path(scratch)


class _Archive:
    """One archive in the making."""

    def __init__(self, data: DataDir, sink: Sink, options: Options, progress: Progress, scratch: Path) -> None:
        self._data = data
        self._options = options
        self._progress = progress
        self._copy = scratch / "copy.sqlite"
        self._sealed = SealedWriter(sink)
        compressor = zstandard.ZstdCompressor(level=LEVEL, threads=options.threads, write_checksum=True)
        self._stream = compressor.stream_writer(self._sealed, closefd=False)  # type: ignore[arg-type]
        self._tar = tarfile.TarFile(
            fileobj=self._stream,
            mode="w",
            format=tarfile.PAX_FORMAT,
            copybufsize=CHUNK,
        )
        self._entries: dict[str, Entry] = {}
        self._remarks: dict[str, str] = {}
        self._done = 0
        self._total = 0

    def write(self) -> Made:
        journal = self._journal_copy()
        found = list(walk(self._data.root, self._options.wanted))
        links = {one.name: one for one in found if one.kind == "link"}
        targets = {name: target for name, one in links.items() if (target := _target(one.path)) is not None}
        self._total = sum(one.size for one in found if one.kind == "file")
        about = self._about(journal)
        self._add_text(ABOUT, about.model_dump_json(indent=2).encode())
        if journal is not None:
            self._add_copy(self._data.journal, self._data.journal.name)
        for one in walk(self._data.root, self._options.wanted):  # anew: what a link names is there by now
            self._add(one)
        for name, target in targets.items():
            self._add_link(links[name], target)
        remarks = tuple(Remark(name=name, text=text) for name, text in sorted(self._remarks.items()))
        manifest = Manifest(about=about, entries=tuple(self._entries.values()), remarks=remarks)
        text = manifest.model_dump_json(exclude_none=True).encode()
        if len(text) > LONGEST_MANIFEST:
            raise too_many(self._data)
        self._add_text(MANIFEST, text)
        self._tar.close()
        self._stream.flush(zstandard.FLUSH_FRAME)
        self._sealed.seal()
        return Made(manifest, self._sealed.size)

    def _journal_copy(self) -> Path | None:
        """A copy of the journal as it is now; None when there is none yet. BackupError when it is broken."""
        try:
            copy_database(self._data.journal, self._copy)
        except FileNotFoundError:
            return None
        except NoDatabase as exc:
            raise BackupError(
                f"the journal {self._data.journal} is broken ({exc}); restore a backup, or move it away"
            ) from exc
        return self._copy

    def _about(self, journal: Path | None) -> About:
        data, wanted = self._data, self._options.wanted
        packs = data.root / PACKS
        return About(
            clawlama=package_version("clawlama"),
            created=datetime.now(UTC),
            journal_schema=None if journal is None else journal_schema(journal),
            machine=Machine(
                architecture=platform.machine(), system=platform.platform(), python=platform.python_version()
            ),
            with_models=wanted.models and (data.root / MODELS).is_dir(),
            with_logs=wanted.logs,
            models=references(data.adapters, self._options.models or data.root / MODELS),
            packs=tuple(sorted(path.name for path in packs.iterdir())) if packs.is_dir() else (),
        )

    def _add(self, found: Found) -> None:
        """Anything but a link; what went meanwhile is passed over."""
        parent = found.name.rpartition("/")[0]
        if found.name in self._entries or found.kind == "link" or (parent and parent not in self._entries):
            return
        if problem := name_problem(found.name) or (
            found.kind == "other" and "it is no file, folder or link that can be read"
        ):
            self._remarks[found.name.encode(errors="backslashreplace").decode()] = problem
            return
        try:
            if found.kind == "folder":
                self._add_folder(found)
            else:
                self._add_file(found)
        except FileNotFoundError:
            return
        except PermissionError as exc:
            self._cannot(found, exc)

    def _cannot(self, found: Found, exc: OSError) -> None:
        if not found.name.startswith(PEOPLES):
            raise BackupError(
                f"{found.path} cannot be read: {exc.strerror}; make it readable for uid {os.geteuid()}"
            ) from exc
        self._remarks[found.name] = f"it cannot be read: {exc.strerror}"

    def _add_folder(self, found: Found) -> None:
        status = found.path.lstat()
        os.scandir(found.path).close()  # so that one that cannot be read is not taken for an empty one
        info = member(found.name, status)
        info.type = tarfile.DIRTYPE
        self._tar.addfile(info)
        self._note(Entry(name=found.name, kind="folder", mode=info.mode, mtime_ns=status.st_mtime_ns))

    def _add_link(self, found: Found, target: str) -> None:
        """After all else. A link to a version that was deleted meanwhile would name nothing: it stays out."""
        if problem := name_problem(found.name) or link_problem(found.name, target):
            self._remarks[found.name.encode(errors="backslashreplace").decode()] = problem
            return
        version = f"{found.name.rpartition('/')[0]}/{target}/manifest.json"
        if found.name.startswith("adapters/") and version not in self._entries:
            return
        try:
            status = found.path.lstat()
        except FileNotFoundError:
            return
        info = member(found.name, status)
        info.type, info.mode, info.linkname = tarfile.SYMTYPE, 0o777, target
        self._tar.addfile(info)
        entry = Entry(name=found.name, kind="link", mode=0o777, mtime_ns=status.st_mtime_ns, target=target)
        self._note(entry)

    def _add_file(self, found: Found) -> None:
        if is_side_file(found.path):
            return
        with opened(found.path) as file:
            if is_database(file) and self._add_database(found):
                return
            self._add_open(file, found.name, os.fstat(file.fileno()))

    def _add_database(self, found: Found) -> bool:
        """False for a broken one: not ours to judge, it is kept as it is, and said."""
        try:
            copy_database(found.path, self._copy)
        except NoDatabase as exc:
            self._remarks[found.name] = f"saved as it lies there, not as a database: {exc}"
            return False
        self._add_copy(found.path, found.name)
        return True

    def _add_copy(self, database: Path, name: str) -> None:
        """What lies in the scratch file, as the database that it is a copy of."""
        with self._copy.open("rb", buffering=0) as file:
            self._add_open(file, name, database.stat())
        self._copy.unlink()

    def _add_open(self, file: IO[bytes], name: str, status: os.stat_result) -> None:
        """``status`` gives mode and time; the size is that of what is read."""
        size = os.fstat(file.fileno()).st_size
        source: IO[bytes] = file
        if size <= SMALL:
            content = file.read(SMALL)
            source, size = BytesIO(content), len(content)
        reading = Reading(self._data.root / name, source, size, self._step)
        info = member(name, status)
        info.size = size
        self._tar.addfile(info, reading)  # type: ignore[arg-type]
        if reading.padded:
            self._remarks[name] = f"it shrank while it was read: its last {reading.padded} bytes are zeros"
        digest = reading.digest.hexdigest()
        self._note(Entry(name=name, kind="file", mode=info.mode, mtime_ns=status.st_mtime_ns, size=size, sha256=digest))

    def _add_text(self, name: str, text: bytes) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.mtime = len(text), 0o600, int(datetime.now(UTC).timestamp())
        self._tar.addfile(info, BytesIO(text))

    def _note(self, entry: Entry) -> None:
        self._entries[entry.name] = entry
        self._tar.getmembers().clear()  # tarfile keeps them for a list that nobody reads
        if len(self._entries) > MOST_MEMBERS:
            raise too_many(self._data)

    def _step(self, read: int) -> None:
        self._done += read
        self._progress(self._done, max(self._done, self._total))


def member(name: str, status: os.stat_result) -> tarfile.TarInfo:
    info = tarfile.TarInfo(f"{DATA}/{name}")
    info.mode, info.mtime = status.st_mode & 0o777, max(0, int(status.st_mtime))
    return info


def too_many(data: DataDir) -> BackupError:
    return BackupError(
        f"{data.root} holds more than {MOST_MEMBERS} files, which no restore would take; "
        "move large collections of files out of its workspace"
    )


def _target(link: Path) -> str | None:
    try:
        return str(link.readlink())
    except OSError:  # gone, or no link any more
        return None
