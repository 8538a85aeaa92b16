"""What can be said about a service at one moment."""

from typing import Literal

from pydantic import BaseModel

from supervisor.services.proc import snapshot

State = Literal[
    "waiting", "starting", "ready", "hanging", "done", "paused", "backing_off", "stopping", "stopped", "failed"
]  # hanging: runs and does not answer; done: a one-shot that went well


class ServiceStatus(BaseModel, frozen=True, extra="forbid"):
    """How a service fares at one moment. Times are in seconds, memory in bytes."""

    name: str
    state: State
    pid: int | None  # of the living process
    restarts: int  # starts after an end that nobody had asked for
    uptime: float | None  # since the living process was started
    ready_after: float | None  # from that start to its readiness
    last_exit: int | None  # exit code of the process before; negative: the signal that ended it
    rss: int | None  # resident memory of the whole session
    essential: bool = True  # False: when it is given up the rest stays
    problem: str = ""  # how it failed last, as long as it does not serve again
    cpu: float | None = None  # seconds that the session has computed
    cpu_percent: float | None = None  # of one core, over a while until this moment; see control.Shares


def used(session: int) -> tuple[int, float]:
    """Bytes of memory held and CPU seconds spent by the processes of a session; shared memory counts for each."""
    members = [proc for proc in snapshot().values() if proc.session == session]
    return sum(proc.rss for proc in members), sum(proc.cpu for proc in members)
