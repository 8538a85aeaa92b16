"""Who we run as. A container started as root hands its data folder to PUID:PGID, and we become that user for good.

Before anything else, in every command: ``docker exec`` as root then leaves no file of root's behind.
"""

import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from supervisor.errors import MachineError, SettingsError

HIGHEST = 2**32 - 2  # the number above it means "leave as it is" to chown
TELL_EVERY = 5.0  # seconds between two lines about a large folder

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Identity:
    """A user and a group, by number: a container's user need not have a name."""

    uid: int
    gid: int

    def __str__(self) -> str:
        return f"{self.uid}:{self.gid}"


def wanted(puid: str, pgid: str) -> Identity | None:
    """What PUID and PGID say; None when PUID is empty. Without PGID the group has the user's number.

    Raises SettingsError for what is no such number.
    """
    if not puid:
        if pgid:
            raise SettingsError(f"PGID={pgid} is set without PUID; set both, or neither")
        return None
    return Identity(number("PUID", puid), number("PGID", pgid or puid))


def number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= HIGHEST):
        raise SettingsError(f"{name}={text} is not a number from 0 to {HIGHEST}; the command id shows yours")
    return int(text)


def settle(to: Identity | None, folder: Path, tell: Tell, *, thorough: bool) -> bool:
    """Become ``to`` if we are root, with ``folder`` and what is in it given to it; whether we did.

    ``thorough``: look at every file, although the folder itself is right. PUID=0 asks to stay root, which rootless
    engines want: their root is the user outside. Raises MachineError when the container lacks the rights for it.
    """
    if os.geteuid() != 0 or to is None or to.uid == 0:
        return False
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if thorough or not belongs(folder.stat(), to):
        problem = Handover(folder, to, tell).done()
        if problem:
            tell(f"not all of {folder} could be given to {to}: {problem}")
    become(to)
    return True


def become(to: Identity) -> None:
    """For good: real, effective and saved. Groups given from outside (a GPU's devices) stay, root's own goes."""
    try:
        os.setgroups([group for group in os.getgroups() if group != 0])
        os.setresgid(to.gid, to.gid, to.gid)
        os.setresuid(to.uid, to.uid, to.uid)
    except PermissionError as exc:
        raise MachineError(
            f"cannot become {to} (PUID:PGID): {exc.strerror}; a container that starts as root needs "
            "--cap-add SETUID --cap-add SETGID --cap-add CHOWN --cap-add DAC_OVERRIDE --cap-add KILL, "
            "or leave out --user 0"
        ) from exc


@dataclass
class Handover:
    """Gives a folder to its owner-to-be: what does not belong to it yet, links themselves and never where they lead.

    The folder comes last: once it is right, everything in it was. Interrupted, the next start goes on.
    """

    folder: Path
    to: Identity
    tell: Tell
    _looked_at: int = field(default=0, init=False)
    _failures: list[str] = field(default_factory=list, init=False)

    def done(self) -> str:
        """What could not be given, empty when all was. Read-only mounts in the folder are left as they are."""
        next_line = time.monotonic() + TELL_EVERY
        for name, parent in self._inside():
            self._give(name, parent)
            self._looked_at += 1
            if time.monotonic() > next_line:
                self.tell(f"making {self.folder} belong to {self.to}: {self._looked_at:,} files so far")
                next_line = time.monotonic() + TELL_EVERY
        self._give(str(self.folder), None)
        if not self._failures:
            return ""
        return self._failures[0] + (f" and {len(self._failures) - 1} more" if self._failures[1:] else "")

    def _inside(self) -> Iterator[tuple[str, int]]:
        """Names with the open folder that they are in, deepest first; no path is looked up twice."""
        for _, folders, files, parent in os.fwalk(
            self.folder, topdown=False, follow_symlinks=False, onerror=self._failed
        ):
            for name in (*files, *folders):
                yield name, parent

    def _give(self, name: str, parent: int | None) -> None:
        try:
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if not belongs(found, self.to):
                os.chown(name, self.to.uid, self.to.gid, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return  # it went while we looked
        except OSError as exc:
            self._failed(exc)

    def _failed(self, exc: OSError) -> None:
        self._failures.append(f"{exc.filename}: {exc.strerror}")


def belongs(found: os.stat_result, to: Identity) -> bool:
    return (found.st_uid, found.st_gid) == (to.uid, to.gid)


def refusal(folder: Path) -> str:
    """Why we may not write into a folder that is there, and both ways out of it as commands."""
    found, ours = folder.stat(), Identity(os.geteuid(), os.getegid())
    return (
        f"{folder} belongs to {found.st_uid}:{found.st_gid} (mode {stat.S_IMODE(found.st_mode):o}), "
        f"and we run as {ours}, which may not write there. Either give it to us, "
        f"on the machine that holds the folder: sudo chown -R {ours} FOLDER\n"
        f"or let the container do so at each start: docker run --user 0 -e PUID={ours.uid} -e PGID={ours.gid} …"
    )
