"""How fast a backup is, beside plain `tar | zstd` over the same folder.

    python bench/backup.py [--json] [--mib N] [--rounds N]

A data folder of about N MiB is made: a journal and an OpenClaw database full of chats, adapter versions, a workspace of
many small files. Then `clawlama backup` and `tar -C FOLDER -cf - . | zstd -T0 -3` take turns on it, into memory, so
that no disk is measured. "CPU" is processor time, which other work on the machine does not change much. Ours also
copies the databases consistently, hashes every file, and hashes what it writes.
"""

import argparse
import json
import random
import resource
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from supervisor.adapters.store import AdapterStore  # noqa: E402
from supervisor.settings.datadir import DataDir  # noqa: E402
from tests.adapters.versions import made  # noqa: E402

MIB = 2**20
WORDS = Path(__file__).with_name("backup.py").read_text().split() + (ROOT / "README.md").read_text().split()


@dataclass(frozen=True)
class Row:
    name: str
    seconds: float  # median
    cpu_seconds: float  # median, of all its processes and threads
    mib_per_s: float
    packed_mib: float


def chats(path: Path, mib: int, rng: random.Random) -> None:
    """A database of so many MiB of text, in WAL mode."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE turns (id INTEGER PRIMARY KEY, messages TEXT)")
        rows = (
            (json.dumps({"role": "user", "content": " ".join(rng.choices(WORDS, k=600))}),) for _ in range(mib * 220)
        )
        connection.executemany("INSERT INTO turns (messages) VALUES (?)", rows)
        connection.commit()


def data_folder(root: Path, mib: int) -> int:
    """Half databases, a third adapters, the rest small files; its bytes."""
    data, rng = DataDir(root), random.Random(0)
    data.prepare()
    chats(data.journal, mib * 35 // 100, rng)
    chats(data.openclaw / "state" / "state" / "openclaw.sqlite", mib * 15 // 100, rng)
    adapters = AdapterStore(data.adapters)
    for _ in range(8):
        version = made(adapters)
        with version.gguf.open("wb") as file:  # half-precision weights: noise with alike high bytes
            for _ in range(max(1, mib * 35 // 800)):
                file.write(bytes(byte for pair in zip(rng.randbytes(MIB // 2), HIGH, strict=True) for byte in pair))
    for number in range(mib * 15 * 100 // 800):
        path = data.workspace / f"project{number % 37}" / f"file{number}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(" ".join(rng.choices(WORDS, k=1200)))
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())


HIGH = random.Random(1).choices(b"\x38\x39\x3a\xb8\xb9\xba\x36\xb6", k=MIB // 2)


def ours(data: Path, to: Path) -> None:
    argv = [sys.executable, "-m", "supervisor", "backup", str(to), "--data", str(data)]
    subprocess.run(argv, cwd=ROOT, check=True, capture_output=True)


def plain(data: Path, to: Path) -> None:
    pipe = 'tar -C "$1" -cf - . | zstd -q -T0 -3 -o "$2"'
    subprocess.run(["/bin/bash", "-o", "pipefail", "-c", pipe, "bash", str(data), str(to)], check=True)


def measure(data: Path, size: int, scratch: Path, rounds: int) -> list[Row]:
    ways: dict[str, Callable[[Path, Path], None]] = {"clawlama backup": ours, "tar | zstd -T0 -3": plain}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    packed = dict.fromkeys(ways, 0)
    for number in range(rounds + 1):
        for name in sorted(ways, reverse=number % 2 == 1):  # neither is always first
            target = scratch / f"{number}.tar.zst"
            start, spent = time.perf_counter(), cpu_of_children()
            ways[name](data, target)
            times[name].append((time.perf_counter() - start, cpu_of_children() - spent))
            packed[name] = target.stat().st_size
            target.unlink()
    return [row(name, taken[1:], size, packed[name]) for name, taken in times.items()]  # the first warms caches


def row(name: str, taken: list[tuple[float, float]], size: int, packed: int) -> Row:
    seconds, cpu = (statistics.median(column) for column in zip(*taken, strict=True))
    return Row(name, seconds, cpu, size / MIB / seconds, packed / MIB)


def cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--mib", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    memory = Path("/dev/shm")  # noqa: S108 - memory, where Linux has it
    with tempfile.TemporaryDirectory(prefix="clawlama-bench-", dir=memory if memory.is_dir() else None) as folder:
        place = Path(folder)
        size = data_folder(place / "data", given.mib)
        rows = measure(place / "data", size, place, given.rounds)
        shutil.rmtree(place / "data")
    ratio, cpu = rows[1].seconds / rows[0].seconds, rows[1].cpu_seconds / rows[0].cpu_seconds
    if given.json:
        told = {"mib": size / MIB, "ratio": ratio, "cpu_ratio": cpu, "rows": [asdict(one) for one in rows]}
        print(json.dumps(told))
        return
    print(
        f"{size / MIB:.0f} MiB, median of {given.rounds} rounds; ours is {ratio:.2f} times as fast, {cpu:.2f} by CPU\n"
    )
    print("| | seconds | CPU | MiB/s | archive, MiB |")
    print("|---|---|---|---|---|")
    for one in rows:
        print(
            f"| {one.name} | {one.seconds:.2f} | {one.cpu_seconds:.2f} | {one.mib_per_s:.0f} | {one.packed_mib:.1f} |"
        )


if __name__ == "__main__":
    main()
