"""Orphans: how they come to us, how we bury them, and how leftovers of a killed supervisor are found.

As a child subreaper we become the parent of whatever a service leaves behind. The exit status of a
process may be collected once and by one waiter only, so this module never waits for "any child": it
collects single pids that it knows to be adopted. Those are our children that live in another session
than ours and that ``running`` did not start. Hence the one rule for the rest of the program: a child in
a session of its own is started through ``running`` and by nothing else.
"""

import ctypes
import os
import signal
import time
from pathlib import Path
from typing import Final

import anyio
import structlog

from supervisor.services.proc import Proc, ancestors, environment_value, snapshot, with_descendants

OWNER_VARIABLE: Final = "CLAWLAMA_OWNER"
PR_SET_CHILD_SUBREAPER: Final = 36  # <linux/prctl.h>

# Children whose exit status belongs to ``running``. Module state, because "my children" is a fact about
# this operating-system process, of which there is one.
LEADERS: Final[set[int]] = set()

log: structlog.stdlib.BoundLogger = structlog.get_logger()


def adopt_orphans() -> None:
    """Make this process the parent of its orphaned offspring; repeating it changes nothing.

    Raises OSError where the kernel (before 3.4) or a sandbox refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"cannot become a child subreaper: {os.strerror(code)}")


def owner_mark(owner: str, life: str) -> str:
    """The value of CLAWLAMA_OWNER: whose process this is, and which start of which service it stems from."""
    return f"{owner}#{life}"


def bury_orphans() -> list[int]:
    """Collect the dead among the adopted; returns their pids. One system call when nobody is dead."""
    if not _anybody_dead():
        return []
    me, session = os.getpid(), os.getsid(0)
    dead = [p for p in snapshot().values() if p.ppid == me and p.dead and p.session != session]
    return [p.pid for p in dead if p.pid not in LEADERS and _collect(p.pid)]


async def keep_burying_orphans(every: float = 0.5) -> None:
    """Bury orphans until cancelled; ``every`` is in seconds."""
    while True:
        bury_orphans()
        await anyio.sleep(every)


async def end_descendants(within: float = 3.0) -> list[int]:
    """Kill and collect everything that still descends from us: the last act of a boot, when nobody else waits.

    Returns the pids that were killed. Whatever SIGKILL cannot end in ``within`` seconds (a process stuck
    in a driver) is logged and left.
    """
    killed: set[int] = set()
    seen_dead: set[int] = set()
    with anyio.move_on_after(within, shield=True) as patience:
        while below := _below_us():
            killed |= {p.pid for p in below if not p.dead and kill(p.pid, signal.SIGKILL)}
            dead = {p.pid for p in below if p.dead and p.ppid == os.getpid()}
            for pid in dead & seen_dead:  # not at first sight: a waiter may be about to read its status
                _collect(pid)
            seen_dead |= dead
            await anyio.sleep(0.02)
    if patience.cancelled_caught:
        log.error("processes survive SIGKILL", pids=[p.pid for p in _below_us()])
    return sorted(killed)


def kill_descendants() -> None:
    """SIGKILL to everything below us; whoever started it collects it."""
    for proc in _below_us():
        kill(proc.pid, signal.SIGKILL)


def sweep(owner: str, within: float = 5.0) -> list[int]:
    """Kill what an earlier supervisor with this owner left behind, whole trees; never us or our ancestors.

    For the time before the event loop starts: blocks until the killed are gone, ``within`` seconds at
    most. Returns the pids. One that somebody else has just killed has lost its mark and not yet its ports, a
    second for each gigabyte of memory: so whatever of this user is ending right now is waited for, too.
    """
    killed: set[int] = set()
    deadline = time.monotonic() + within
    leftovers, ending = _leftovers(owner, killed), _ending()  # in this order: first the mark goes, then the process
    while leftovers | ending:
        if time.monotonic() > deadline:
            log.error("processes survive SIGKILL", pids=sorted(leftovers | ending))
            break
        killed |= {pid for pid in leftovers if kill(pid, signal.SIGKILL)}
        time.sleep(0.01)
        leftovers, ending = _leftovers(owner, killed), ending & _ending()
    bury_orphans()
    return sorted(killed)


def kill(pid: int, number: signal.Signals) -> bool:
    """Send a signal; False when the process is gone, or is not ours to signal."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _leftovers(owner: str, killed: set[int]) -> set[int]:
    """Alive and marked, below such a one, or not yet over its killing (the mark goes first, then the ports)."""
    table = {pid: proc for pid, proc in snapshot().items() if not proc.dead}
    roots = [pid for pid in table if pid in killed or _owner_of(pid) == owner]
    return with_descendants(roots, table) - ancestors(os.getpid(), table)


def _ending() -> set[int]:
    """Processes of this user that are past their last instruction, and not gone."""
    found = {pid for pid, proc in snapshot().items() if proc.exiting and not proc.dead}
    return {pid for pid in found if _user_of(pid) == os.geteuid()}


def _user_of(pid: int) -> int | None:
    try:
        return Path(f"/proc/{pid}").stat().st_uid
    except OSError:  # gone
        return None


def _owner_of(pid: int) -> str | None:
    mark = environment_value(pid, OWNER_VARIABLE)
    return None if mark is None else mark.rpartition("#")[0]


def _below_us() -> list[Proc]:
    table = snapshot()
    me = os.getpid()
    return [table[pid] for pid in with_descendants([me], table) if pid != me]


def _anybody_dead() -> bool:
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False


def _collect(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return False
