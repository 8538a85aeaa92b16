"""From checked archives to a folder. The archives may have been made by anybody: nothing is written outside the folder.

Runs in a worker thread, which can be called off between two blocks.
"""

import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Literal

import zstandard
from anyio import from_thread

from supervisor.errors import PackError
from supervisor.packs.pack import PackFile

BLOCK = 2**20  # bytes
SYNC_EVERY = 2**25  # bytes; so that no wait for the disk is long
PROGRAM = 0o111  # any of these bits
BROKEN = (tarfile.TarError, zipfile.BadZipFile, NotImplementedError, zstandard.ZstdError, EOFError, zlib.error)


@dataclass(frozen=True)
class Member:
    """One entry of an archive. ``target``: what a link points to; ``size`` in bytes."""

    name: str
    kind: Literal["file", "link", "hard link"]
    size: int = 0
    program: bool = False
    target: str = ""


@dataclass(frozen=True)
class Unpacker:
    """Unpacks archives of one pack into ``root``, a new folder. ``limit``: bytes that they may become."""

    root: Path
    limit: int

    def unpack(self, archive: Path, file: PackFile, before: int) -> int:
        """Bytes written so far, ``before`` included. Raises PackError for an archive that is broken or hostile."""
        written = before
        try:
            with members(archive, file.kind) as found:
                for member, content in found:
                    if not member.name.startswith(file.leave_out):
                        written += self._take(member, content, self.limit - written)
        except BROKEN as exc:
            raise PackError(f"{file.name} is broken ({exc}); this version of clawlama knows a wrong archive") from exc
        except PackError as exc:
            raise PackError(f"{file.name}: {exc}") from exc
        except FileExistsError as exc:
            raise PackError(f"{file.name} holds {exc.filename} twice; nothing of it is used") from exc
        except OSError as exc:
            raise PackError(f"{file.name} cannot be unpacked: {exc.strerror}; make room in {self.root.parent}") from exc
        return written

    def _take(self, member: Member, content: IO[bytes] | None, room: int) -> int:
        if member.size > room:
            raise PackError("it holds more than it should; nothing of it is used")
        path = self._inside(self.root / name_of(member.name))
        path.parent.mkdir(parents=True, exist_ok=True)
        if member.kind == "link":
            self._inside(path.parent / name_of(member.target))
            path.symlink_to(member.target)
        elif member.kind == "hard link":
            path.hardlink_to(self._inside(self.root / name_of(member.target)))
        elif content is not None:
            return self._write(path, member, content)
        return 0

    def _write(self, path: Path, member: Member, content: IO[bytes]) -> int:
        written = 0
        with path.open("xb") as target:  # a second member of the same name is refused
            while block := content.read(BLOCK):
                written += len(block)
                if written > member.size:
                    raise PackError(f"{member.name} is longer than it says")
                target.write(block)
                if written % SYNC_EVERY < BLOCK:
                    os.fdatasync(target.fileno())
                from_thread.check_cancelled()
            target.flush()
            os.fsync(target.fileno())
        path.chmod(0o755 if member.program else 0o644)
        return written

    def _inside(self, path: Path) -> Path:
        """The same path; PackError when a link that was unpacked before would lead it out of the folder."""
        if not path.parent.resolve().is_relative_to(self.root.resolve()):
            raise PackError(f"a member leads out of its folder to {path}; nothing of it is used")
        return path


def name_of(text: str) -> PurePosixPath:
    """A relative name without steps upwards. PackError for any other."""
    name = PurePosixPath(text)
    if name.is_absolute() or ".." in name.parts or not name.parts or "\0" in text or "\\" in text:
        raise PackError(f"a member is called {text!r}, which could lie anywhere; nothing of it is used")
    return name


Content = Generator[tuple[Member, IO[bytes] | None]]


@contextmanager
def members(archive: Path, kind: str) -> Iterator[Content]:
    """Every entry that is no folder, with its content; each is read before the next is asked for."""
    if kind in {"wheel", "zip"}:
        with zipfile.ZipFile(archive) as opened, closing(zip_members(opened)) as found:
            yield found
        return
    with archive.open("rb") as raw:
        packed: IO[bytes] = zstandard.ZstdDecompressor().stream_reader(raw) if kind == "tar.zst" else raw
        mode: Literal["r|", "r|gz"] = "r|" if kind == "tar.zst" else "r|gz"
        with tarfile.open(fileobj=packed, mode=mode) as opened_tar, closing(tar_members(opened_tar)) as members_found:
            yield members_found


def zip_members(archive: zipfile.ZipFile) -> Content:
    for entry in archive.infolist():
        if entry.is_dir():
            continue
        mode = entry.external_attr >> 16
        if stat.S_IFMT(mode) not in {0, stat.S_IFREG}:
            raise PackError(f"{entry.filename} is no plain file; nothing of it is used")
        with archive.open(entry) as content:
            yield Member(entry.filename, "file", entry.file_size, program=bool(mode & PROGRAM)), content


def tar_members(archive: tarfile.TarFile) -> Content:
    for entry in archive:
        if entry.isdir():
            continue
        name = entry.name.removeprefix("./")
        if entry.isfile():
            content = archive.extractfile(entry)
            assert content is not None
            with closing(content):
                yield Member(name, "file", entry.size, program=bool(entry.mode & PROGRAM)), content
        elif entry.issym():
            yield Member(name, "link", target=entry.linkname), None
        elif entry.islnk():
            yield Member(name, "hard link", target=entry.linkname.removeprefix("./")), None
        else:
            raise PackError(f"{name} is neither file nor link; nothing of it is used")
