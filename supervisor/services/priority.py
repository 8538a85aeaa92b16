"""How much of the processor a process gets while others want it too."""

import os
from contextlib import suppress
from pathlib import Path


def step_back(pid: int, nice: int) -> None:
    """Give a process, and what it will start, the priority ``nice`` (1 to 19, the last). One that is gone stays so.

    Where Linux groups processes by session (autogroup, sched(7)) priorities count within a session only, and each
    process of ours leads one: then its session gets the priority as well.
    """
    with suppress(OSError):
        nice = max(nice, os.getpriority(os.PRIO_PROCESS, pid))  # whoever started us may have stepped back further
        os.setpriority(os.PRIO_PROCESS, pid, nice)
        if os.getsid(pid) == pid:
            Path(f"/proc/{pid}/autogroup").write_text(str(nice))
