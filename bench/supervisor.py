"""What it costs to keep processes alive: ours beside supervisord and s6, in the same run.

    python bench/supervisor.py [--json] [--idle SECONDS] [--without-product]

Three children that do nothing. "started" is the time from exec until all of them run; "restarted" from the SIGKILL of
one, two seconds later, until its successor runs, pauses by policy included; memory and CPU are those of the
supervising processes alone, CPU over a while in which nothing happens. "our tree" is the process tree without the
rest, "clawlama up" everything on the bundled model: three other children, and an API. Peers that are not installed
(Debian: supervisor, s6) are left out. The median of three runs.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from supervisor.preflight import free_port  # noqa: E402
from supervisor.services.proc import snapshot, with_descendants  # noqa: E402

NAMES = ("one", "two", "three")
RUNS = 3
PATIENCE = 120.0  # seconds
SETTLE = 2.0  # seconds; supervisord takes a child for started after one

TREE = """
import sys, anyio
from pathlib import Path
from supervisor.services.output import LogFile, Output
from supervisor.services.process import Command
from supervisor.services.service import Service
from supervisor.services.signals import signals_heeded
from supervisor.services.tree import supervised

folder = Path(sys.argv[1])

async def main():
    async with signals_heeded(print), supervised() as tree:
        await tree.start(*(made(name) for name in sys.argv[2:]))
        await anyio.sleep_forever()

def made(name):
    output = Output(name, file=LogFile(folder / f"{name}.log"))
    return Service(name, lambda: Command(("/bin/sh", str(folder / name))), anyio.lowlevel.checkpoint, output)

anyio.run(main)
"""


@dataclass(frozen=True)
class Peer:
    """``prepare`` writes what it reads into a folder; the answer is the command to start."""

    name: str
    prepare: Callable[[Path], Sequence[str]]
    children: Callable[[Path], dict[str, int]]  # running ones by name
    environment: Callable[[Path], dict[str, str]] = field(default=lambda _folder: {})
    supervises: str = ""  # a further program that belongs to it
    ready: Callable[[Path], bool] = field(default=lambda _folder: True)
    names: tuple[str, ...] = NAMES
    program: str = sys.executable


@dataclass(frozen=True)
class Row:
    name: str
    started_ms: float
    restarted_ms: float
    rss_mb: float
    cpu_percent: float


def scripts(folder: Path) -> None:
    for name in NAMES:
        path = folder / name
        path.write_text(
            f"#!/bin/sh\necho $$ > {folder}/{name}.new && mv {folder}/{name}.new {folder}/{name}.pid\n"
            "exec sleep 100000\n"
        )
        path.chmod(0o755)


def by_pid_file(folder: Path) -> dict[str, int]:
    found = {}
    for name in NAMES:
        with suppress(FileNotFoundError):
            found[name] = int((folder / f"{name}.pid").read_text())
    return found


def our_tree(folder: Path) -> Sequence[str]:
    scripts(folder)
    return [sys.executable, "-c", TREE, str(folder), *NAMES]


def supervisord(folder: Path) -> Sequence[str]:
    scripts(folder)
    sections = [f"[supervisord]\nnodaemon=true\nlogfile={folder}/log\npidfile={folder}/pid\n"]
    sections += [f"[program:{name}]\ncommand={folder}/{name}\nautorestart=true\n" for name in NAMES]
    (folder / "conf").write_text("\n".join(sections))
    return ["supervisord", "-c", f"{folder}/conf"]


def s6(folder: Path) -> Sequence[str]:
    scripts(folder)
    for name in NAMES:
        service = folder / "scan" / name
        service.mkdir(parents=True)
        (service / "run").write_text(f"#!/bin/sh\nexec {folder}/{name}\n")
        (service / "run").chmod(0o755)
    return ["s6-svscan", f"{folder}/scan"]


def clawlama(folder: Path) -> Sequence[str]:
    (folder / "data").mkdir()
    return [sys.executable, "-m", "supervisor", "up"]


def clawlama_environment(folder: Path) -> dict[str, str]:
    return {
        "CLAWLAMA_DATA": str(folder / "data"),
        "CLAWLAMA_API_PORT": str(free_port()),
        "CLAWLAMA_OPENCLAW_PORT": str(free_port()),
    }


def clawlama_engine(folder: Path) -> dict[str, int]:
    """The engine: the first child, and the one that is killed."""
    engine = f"supervisor.engines.llama_server {folder}"
    found = [pid for pid in snapshot() if engine in command_line(pid)]
    return {"engine": found[0]} if found else {}


def clawlama_ready(folder: Path) -> bool:
    with suppress(FileNotFoundError, ValueError):
        return bool(json.loads((folder / "data" / "run" / "supervisor.json").read_text())["ready"])
    return False


def command_line(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


PEERS = (
    Peer("our tree", our_tree, by_pid_file),
    Peer("supervisord", supervisord, by_pid_file, program="supervisord"),
    Peer("s6", s6, by_pid_file, supervises="s6-supervise", program="s6-svscan"),
)
PRODUCT = Peer("clawlama up", clawlama, clawlama_engine, clawlama_environment, ready=clawlama_ready, names=("engine",))


@contextmanager
def started(peer: Peer, folder: Path) -> Iterator[tuple[int, float]]:
    """The pid of a running peer, and when it was started."""
    command = peer.prepare(folder)
    environment = {**os.environ, **peer.environment(folder), "PYTHONPATH": search_path(peer)}
    with (folder / "said").open("wb") as said:
        began = time.perf_counter()
        process = subprocess.Popen(command, env=environment, stdout=said, stderr=said, cwd=folder)
    try:
        yield process.pid, began
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)
        for pid in peer.children(folder).values():  # s6 leaves them when it is told to go like this
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def search_path(peer: Peer) -> str:
    given = os.environ.get("PYTHONPATH", "")
    return f"{ROOT}:{given}" if peer.name in {"our tree", "clawlama up"} else given


def measure(peer: Peer, idle: float) -> Row:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with started(peer, folder) as (pid, began):
            until(lambda: peer.children(folder).keys() == set(peer.names), peer)
            ready = time.perf_counter()
            until(lambda: peer.ready(folder), peer)
            time.sleep(SETTLE)
            ours = supervising(pid, peer)
            cpu, when = cpu_seconds(ours), time.perf_counter()
            time.sleep(idle)
            cpu, when = cpu_seconds(ours) - cpu, time.perf_counter() - when
            rss = sum(proc.rss for proc in snapshot().values() if proc.pid in ours)
            again = restarted(peer, folder)
        return Row(peer.name, 1000 * (ready - began), 1000 * again, rss / 1e6, 100 * cpu / when)


def restarted(peer: Peer, folder: Path) -> float:
    """Seconds from the end of a child to its successor."""
    name = peer.names[0]
    old = peer.children(folder)[name]
    killed = time.perf_counter()
    os.kill(old, signal.SIGKILL)
    until(lambda: peer.children(folder).get(name, old) != old, peer)
    return time.perf_counter() - killed


def supervising(pid: int, peer: Peer) -> set[int]:
    """The supervisor, and what it needs beside it; not its children."""
    below = with_descendants([pid], snapshot())
    return {pid} | {one for one in below if peer.supervises and peer.supervises in command_line(one)}


def cpu_seconds(pids: set[int]) -> float:
    """All threads together, to the nanosecond: clock ticks are too coarse for something that does nothing."""
    tasks = [task for pid in pids for task in Path(f"/proc/{pid}/task").iterdir()]
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def until(true: Callable[[], bool], peer: Peer) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{peer.name} did not get that far in {PATIENCE:.0f} s")
        time.sleep(0.002)


def middle(rows: Sequence[Row]) -> Row:
    values = [
        statistics.median(column) for column in zip(*(tuple(asdict(row).values())[1:] for row in rows), strict=True)
    ]
    return Row(rows[0].name, *values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--idle", type=float, default=20.0, help="seconds without any event")
    parser.add_argument("--without-product", action="store_true", help="needs no OpenClaw")
    asked = parser.parse_args()
    peers = [peer for peer in PEERS if shutil.which(peer.program)]
    if not asked.without_product:
        peers.append(PRODUCT)
    rows = [middle([measure(peer, asked.idle) for _ in range(RUNS)]) for peer in peers]
    if asked.json:
        print(json.dumps([asdict(row) for row in rows]))
        return
    print("| | started, ms | restarted, ms | memory, MB | CPU at rest, % of a core |\n|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row.name} | {row.started_ms:.0f} | {row.restarted_ms:.0f} | {row.rss_mb:.1f} | {row.cpu_percent:.3f} |"
        )


if __name__ == "__main__":
    main()
