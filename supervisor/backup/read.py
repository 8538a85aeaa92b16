"""Reads an archive that may come from anybody: only what we write ourselves is taken, the rest is refused.

The tar headers are looked at one by one, because a general reader follows whatever they say: lists of holes, headers
about headers, names of any length.
"""

import hashlib
import os
import re
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import zstandard

from supervisor.adapters.store import sync_file, sync_folder
from supervisor.backup.contents import link_problem, name_problem
from supervisor.backup.destination import check_room, give_to_owner, private
from supervisor.backup.manifest import (
    ABOUT,
    DATA,
    LONGEST_ABOUT,
    LONGEST_MANIFEST,
    MANIFEST,
    MOST_MEMBERS,
    Entry,
    Manifest,
    parse_about,
    parse_manifest,
)
from supervisor.backup.seal import CHUNK, SealedReader, Source
from supervisor.errors import BackupError, BrokenArchive

BLOCK = tarfile.BLOCKSIZE
LONGEST_NOTE = 2**16  # bytes of a header that carries a long name
KINDS = {tarfile.REGTYPE: "file", tarfile.DIRTYPE: "folder", tarfile.SYMTYPE: "link"}

Step = Callable[[int], None]
"""Told how many bytes of the archive were read since the last time."""


def read_archive(source: Source, into: Path | None, step: Step) -> Manifest:
    """Check everything; with ``into``, an empty folder, also lay out there what lies below the data folder.

    Raises BrokenArchive when anything differs from what was written, BackupError when a newer clawlama wrote it or
    there is no room; what was laid out by then is to be thrown away.
    """
    sealed = SealedReader(_Counted(source, step))
    try:
        manifest = _Archive(_Tar(sealed), into).read()
    except BrokenArchive:
        sealed.check()  # damage explains whatever else seems wrong
        raise
    sealed.check()
    return manifest


class _Counted:
    def __init__(self, source: Source, step: Step) -> None:
        self._source = source
        self._step = step

    def read(self, size: int) -> bytes:
        try:
            given = self._source.read(size)
        except OSError as exc:
            raise BackupError(f"the archive cannot be read: {exc.strerror}; copy it to another disk first") from exc
        self._step(len(given))
        return given


class _Tar:
    """The members of a tar stream in the few forms that we write."""

    def __init__(self, source: SealedReader) -> None:
        reader = zstandard.ZstdDecompressor()
        self._stream = reader.stream_reader(source, read_size=CHUNK, closefd=False)  # type: ignore[arg-type]

    def next(self) -> tarfile.TarInfo | None:
        """The next member's header, None at the end of the archive."""
        block = self._exactly(BLOCK)
        if not any(block):
            self._only_zeros()
            return None
        info = header(block)
        if info.type != tarfile.XHDTYPE:
            return info
        if info.size > LONGEST_NOTE:
            raise BrokenArchive(f"a header of {info.size} bytes; ours have at most {LONGEST_NOTE}")
        longer = notes(b"".join(self.content(info.size)))
        info = header(self._exactly(BLOCK))
        if info.type == tarfile.XHDTYPE:
            raise BrokenArchive("a header about a header; we write none")
        info.name = longer.get("path", info.name).removesuffix("/")
        info.linkname = longer.get("linkpath", info.linkname)
        if "size" in longer:
            info.size = number(longer["size"])
        return info

    def content(self, size: int) -> Iterator[bytes]:
        """The bytes of the member whose header was read last; all of them have to be taken."""
        left = size
        while left:
            given = self._exactly(min(left, CHUNK))
            left -= len(given)
            yield given
        self._exactly(-size % BLOCK)

    def text(self, info: tarfile.TarInfo, longest: int) -> bytes:
        if info.type != tarfile.REGTYPE or info.size > longest:
            raise BrokenArchive(f"{info.name} is no file of at most {longest} bytes")
        return b"".join(self.content(info.size))

    def _exactly(self, size: int) -> bytes:
        given = self._read(size)
        if len(given) != size:
            raise BrokenArchive("the archive was cut short")
        return given

    def _only_zeros(self) -> None:
        """Tar fills its last record with them."""
        rest = self._read(tarfile.RECORDSIZE + 1)
        if any(rest) or len(rest) > tarfile.RECORDSIZE:
            raise BrokenArchive("something follows after the end of the archive")

    def _read(self, size: int) -> bytes:
        """Fewer bytes only at the end."""
        try:
            return self._stream.read(size)
        except zstandard.ZstdError as exc:
            raise BrokenArchive(f"the archive cannot be decompressed: {exc}") from exc


def header(block: bytes) -> tarfile.TarInfo:
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    except (tarfile.HeaderError, ValueError) as exc:
        raise BrokenArchive(f"a member's header does not parse: {exc}") from exc
    if info.size < 0:
        raise BrokenArchive(f"{info.name!r} has the size {info.size}")
    return info


def notes(text: bytes) -> dict[str, str]:
    """The records ``LENGTH KEY=VALUE`` of a header that carries what is too long for a usual one."""
    found: dict[str, str] = {}
    while text:
        length = number(text.partition(b" ")[0][:10].decode("ascii", "replace"))
        record, text = text[:length], text[length:]
        key, equals, value = record.partition(b" ")[2].rstrip(b"\n").partition(b"=")
        name = key.decode("ascii", "replace")
        if not equals or len(record) != length or name not in {"path", "linkpath", "size"} or name in found:
            raise BrokenArchive(f"a header with {name!r}; ours have only path, linkpath and size")
        try:
            found[name] = value.decode()
        except UnicodeDecodeError as exc:
            raise BrokenArchive(f"a header's {name} is not UTF-8") from exc
    return found


def number(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,18}", text):
        raise BrokenArchive(f"a header has {text!r} where a number belongs")
    return int(text)


class _Archive:
    """One archive being read: what was seen, and where it goes."""

    def __init__(self, tar: _Tar, into: Path | None) -> None:
        self._tar = tar
        self._into = into
        self._seen: dict[str, Entry] = {}

    def read(self) -> Manifest:
        first = self._tar.next()
        if first is None or first.name != ABOUT:
            raise BrokenArchive(f"the archive does not begin with {ABOUT}; is it a backup of clawlama?")
        about = parse_about(self._tar.text(first, LONGEST_ABOUT))
        while (info := self._tar.next()) is not None and info.name != MANIFEST:
            self._member(info)
        if info is None:
            raise BrokenArchive(f"the archive has no {MANIFEST}: it was cut short")
        manifest = parse_manifest(self._tar.text(info, LONGEST_MANIFEST))
        if (more := self._tar.next()) is not None:
            raise BrokenArchive(f"{more.name!r} follows after {MANIFEST}, which is the last one of ours")
        if manifest.about != about:
            raise BrokenArchive(f"{ABOUT} and {MANIFEST} contradict each other")
        self._compare(manifest)
        self._finish(manifest)
        return manifest

    def _member(self, info: tarfile.TarInfo) -> None:
        top, _, name = info.name.partition("/")
        kind = KINDS.get(info.type)
        if top != DATA or kind is None or info.mode & ~0o777:
            raise BrokenArchive(f"{info.name!r} is of a kind, in a place or with a mode that no backup has")
        parent = name.rpartition("/")[0]
        problem = name_problem(name) or (link_problem(name, info.linkname) if kind == "link" else None)
        if name in self._seen:
            problem = "it is there twice"
        elif parent and (parent not in self._seen or self._seen[parent].kind != "folder"):
            problem = "it lies in no folder of the archive"
        elif kind != "file" and info.size:
            problem = "it has content and is no file"
        elif len(self._seen) >= MOST_MEMBERS:
            problem = f"there are more than {MOST_MEMBERS} members"
        if problem:
            raise BrokenArchive(f"{info.name!r} is refused: {problem}")
        self._seen[name] = self._take(name, info)

    def _take(self, name: str, info: tarfile.TarInfo) -> Entry:
        """Read it, and lay it out where that is wanted; its time is in the manifest only."""
        path = None if self._into is None else self._into / name
        if info.type == tarfile.DIRTYPE:
            if path is not None:
                path.mkdir(mode=0o700)
            return Entry(name=name, kind="folder", mode=info.mode, mtime_ns=0)
        if info.type == tarfile.SYMTYPE:
            if path is not None:
                path.symlink_to(info.linkname)
            return Entry(name=name, kind="link", mode=info.mode, mtime_ns=0, target=info.linkname)
        digest = self._content(info, path)
        return Entry(name=name, kind="file", mode=info.mode, mtime_ns=0, size=info.size, sha256=digest)

    def _content(self, info: tarfile.TarInfo, path: Path | None) -> str:
        digest = hashlib.sha256()
        if path is None:
            for chunk in self._tar.content(info.size):
                digest.update(chunk)
            return digest.hexdigest()
        check_room(path.parent, info.size, "make room, or restore into another folder with --into")
        with open(path, "xb", buffering=0, opener=private) as file:
            for chunk in self._tar.content(info.size):
                digest.update(chunk)
                view = memoryview(chunk)
                while view:
                    view = view[file.write(view) :]
        return digest.hexdigest()

    def _compare(self, manifest: Manifest) -> None:
        listed = {entry.name: entry.model_copy(update={"mtime_ns": 0}) for entry in manifest.entries}
        if len(listed) != len(manifest.entries):
            raise BrokenArchive(f"{MANIFEST} names something twice")
        for name in sorted(listed.keys() ^ self._seen.keys()):
            where = "is not in the archive" if name in listed else "is in the archive, but not in its list"
            raise BrokenArchive(f"{name!r} {where}")
        for name, entry in listed.items():
            if entry != self._seen[name]:
                raise BrokenArchive(f"{name!r} is not what {MANIFEST} says it is")

    def _finish(self, manifest: Manifest) -> None:
        """Modes and times, from the innermost out, and all of it onto the disk."""
        if self._into is None:
            return
        for entry in reversed(manifest.entries):
            path = self._into / entry.name
            if entry.kind == "file":
                sync_file(path)
            elif entry.kind == "folder":
                sync_folder(path)
            give_to_owner(path, self._into)
            if entry.kind != "link":
                path.chmod(entry.mode)
            os.utime(path, ns=(entry.mtime_ns, entry.mtime_ns), follow_symlinks=False)
        sync_folder(self._into)
