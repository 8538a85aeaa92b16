"""What Linux's /proc says about processes: one look, plain values, nothing kept open."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")
PF_EXITING = 0x4  # <linux/sched.h>
LONGEST = 4096  # bytes of /proc/PID/stat; it has some 50 numbers and a name of up to 64 characters
TICKS = os.sysconf("SC_CLK_TCK")  # a second


@dataclass(frozen=True, slots=True)
class Proc:
    """One line of /proc/PID/stat, at the moment it was read (proc(5))."""

    pid: int
    ppid: int
    group: int
    session: int
    state: str
    threads: int
    exiting: bool  # its environment is gone, its memory and its ports may not be
    rss: int  # bytes; shared pages count in every process
    cpu: float  # seconds that it and its children that have ended and were waited for have computed

    @property
    def dead(self) -> bool:
        """Only its exit status is left. A zombie main thread with other threads alive is not dead."""
        return self.state in "ZX" and self.threads < 2


def snapshot() -> dict[int, Proc]:
    """Every process that can be seen, by pid. About 10 microseconds for each."""
    with os.scandir("/proc") as entries:
        pids = [int(entry.name) for entry in entries if entry.name.isdigit()]
    found = (_read(pid) for pid in pids)
    return {proc.pid: proc for proc in found if proc is not None}


def _read(pid: int) -> Proc | None:
    try:
        file = os.open(f"/proc/{pid}/stat", os.O_RDONLY)  # Path.read_bytes takes twice as long
        try:
            line = os.read(file, LONGEST)
        finally:
            os.close(file)
    except (FileNotFoundError, ProcessLookupError):
        return None  # it ended since the directory was listed; the kernel says the one or the other, to both calls
    fields = line.rpartition(b")")[2].split()  # the name before it may hold spaces and brackets
    return Proc(
        pid=pid,
        ppid=int(fields[1]),
        group=int(fields[2]),
        session=int(fields[3]),
        state=fields[0].decode(),
        threads=int(fields[17]),
        exiting=bool(int(fields[6]) & PF_EXITING),
        rss=int(fields[21]) * PAGE,
        cpu=sum(map(int, fields[11:15])) / TICKS,
    )


def with_descendants(roots: Iterable[int], table: dict[int, Proc]) -> set[int]:
    """The roots that are in the table, and everything below them."""
    children: dict[int, list[int]] = {}
    for proc in table.values():
        children.setdefault(proc.ppid, []).append(proc.pid)
    found: set[int] = set()
    new = [pid for pid in roots if pid in table]
    while new:
        found.update(new)
        new = [child for pid in new for child in children.get(pid, ()) if child not in found]
    return found


def ancestors(pid: int, table: dict[int, Proc]) -> set[int]:
    """The process itself and everything above it."""
    line: set[int] = set()
    while pid in table and pid not in line:
        line.add(pid)
        pid = table[pid].ppid
    return line


def environment_value(pid: int, name: str) -> str | None:
    """A variable of the environment the process was started with; None too when we may not look."""
    try:
        block = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:  # gone, or not ours to read
        return None
    prefix = f"{name}=".encode()
    for entry in block.split(b"\0"):
        if entry.startswith(prefix):
            return entry.removeprefix(prefix).decode(errors="replace")
    return None
