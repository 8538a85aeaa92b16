"""Where the kernel shows the control groups that we are in, of version 1, version 2, or both at once.

A limit may be set at any height (a systemd slice, the container, the pod), so all of them count. Formats: cgroups(7),
proc_pid_mountinfo(5).
"""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

PROC = Path("/proc/self")
UNIFIED = ""  # version 2 knows no controllers by name here


class Mount(NamedTuple):
    controllers: frozenset[str]
    root: PurePosixPath  # the group that is shown at ``point``
    point: Path


def groups(controller: str, proc: Path = PROC) -> tuple[Path, ...]:
    """Folders of our own group and of every one above it that is visible, innermost first."""
    paths = membership(read(proc / "cgroup") or "")
    found: list[Path] = []
    for mount in mounts(read(proc / "mountinfo") or ""):
        for name in (controller, UNIFIED):
            if name in mount.controllers and name in paths:
                found.extend(upwards(mount, paths[name]))
    return tuple(found)


def membership(text: str) -> dict[str, PurePosixPath]:
    """Controller to our group, of lines ``ID:CONTROLLERS:PATH``."""
    found: dict[str, PurePosixPath] = {}
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        controllers, separator, path = rest.partition(":")
        if separator:
            found |= dict.fromkeys(controllers.split(","), PurePosixPath(path))
    return found


def mounts(text: str) -> Iterator[Mount]:
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        place, kind = before.split(), after.split()
        if len(place) > 4 and len(kind) > 2 and kind[0] in {"cgroup", "cgroup2"}:
            controllers = {UNIFIED} if kind[0] == "cgroup2" else set(kind[2].split(","))
            yield Mount(frozenset(controllers), PurePosixPath(unescape(place[3])), Path(unescape(place[4])))


def upwards(mount: Mount, path: PurePosixPath) -> Iterator[Path]:
    """Our group's folder and those above it. Where our group is not to be seen, what is mounted is the nearest."""
    inside = path.relative_to(mount.root) if path.is_relative_to(mount.root) else PurePosixPath()
    folder = mount.point / inside
    if ".." in inside.parts or not folder.is_dir():
        folder = mount.point
    while folder != mount.point:
        yield folder
        folder = folder.parent
    yield mount.point


def unescape(text: str) -> str:
    """Blanks in paths are written as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def read(path: Path) -> str | None:
    """None where there is no such file or we may not look."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return None


def number(text: str | None) -> int | None:
    """None for no limit (``max``, negative numbers), for an absent file and for what is no number."""
    return int(text) if text is not None and text.isdecimal() else None
