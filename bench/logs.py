"""What output costs: how fast it is taken in, and what a service that prints 10 MB/s does to our API.

    python bench/logs.py [--json]

The first table feeds blocks of a pipe's size to an Output in one process, in megabytes for each second of CPU. Its
lines differ, as those of a log do. The second asks our API for /healthz a thousand times, alone and while a child in
the same supervisor prints 10 MB/s to a rotated file and a terminal, secrets taken out.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

import anyio
import httpx

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from fastapi import FastAPI  # noqa: E402

from supervisor.api.server import serve  # noqa: E402
from supervisor.gateway.output import readable  # noqa: E402
from supervisor.redact import redactor  # noqa: E402
from supervisor.services.output import BLOCK, LogFile, Output, json_sink, terminal_sink  # noqa: E402
from supervisor.services.process import Command, running  # noqa: E402

SECRETS = ("t0K3n" * 8, "AAH-another" * 4)
MEGABYTES = 40
REQUESTS = 1000
FLOOD = """
import sys, time
line = "{:012} slot update_slots: id 1 | task 7 | prompt done, n_tokens = 512, token: 12, http://127.0.0.1:11434/api\\n"
n, began = 0, time.monotonic()
while True:
    block = "".join(line.format(n + k) for k in range(100))
    sys.stdout.write(block); sys.stdout.flush()
    n += 100
    time.sleep(max(0.0, began + n * len(line.format(0)) / 10e6 - time.monotonic()))
"""


@dataclass(frozen=True)
class Feed:
    way: str
    mb_per_s: float


@dataclass(frozen=True)
class Answers:
    beside: str
    median_ms: float
    p99_ms: float
    taken_mb_per_s: float


def blocks(line: str) -> list[bytes]:
    text = "".join(f"{line.format(n)}\n" for n in range(MEGABYTES * 2**20 // len(line)))
    data = text.encode()
    return [data[at : at + BLOCK] for at in range(0, len(data), BLOCK)]


def feeds(folder: Path, nowhere: TextIO) -> list[Feed]:
    plain = blocks(
        "{:012} slot update_slots: id 1 | task 7 | prompt done, n_tokens = 512, token: 12, http://127.0.0.1:1"
    )
    events = blocks(
        '{{"time":"{:012}","level":"warn","subsystem":"gateway","message":"low context window for this model"}}'
    )
    secrets = redactor(SECRETS)

    def chats(text: str) -> str:
        return secrets("\n".join(map(readable, text.split("\n"))))

    def file() -> LogFile:
        return LogFile(folder / "bench.log")

    ways: list[tuple[str, list[bytes], Callable[[], Output]]] = [
        ("in memory only", plain, lambda: Output("x")),
        ("file", plain, lambda: Output("x", file=file())),
        ("file, terminal", plain, lambda: Output("x", file=file(), terminal=terminal_sink(nowhere))),
        ("file, JSON lines", plain, lambda: Output("x", file=file(), terminal=json_sink(nowhere))),
        ("file, secrets taken out", plain, lambda: Output("x", file=file(), redact=secrets)),
        ("file, OpenClaw's events, secrets taken out", events, lambda: Output("x", file=file(), redact=chats)),
    ]
    return [Feed(way, fed(make(), data)) for way, data, make in ways]


def fed(output: Output, data: list[bytes]) -> float:
    began = time.process_time()
    for block in data:
        output.feed(block)
    return sum(map(len, data)) / (time.process_time() - began) / 1e6


async def answers(beside: str, output: Output | None) -> Answers:
    app = FastAPI()

    @app.get("/healthz")
    async def alive() -> dict[str, str]:
        return {"status": "alive"}

    took: list[float] = []
    async with anyio.create_task_group() as tg:
        port = await tg.start(lambda *, task_status: serve(app, host="127.0.0.1", port=0, task_status=task_status))
        if output is not None:
            tg.start_soon(flood, output)
        began = time.monotonic()
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            for _ in range(REQUESTS):
                asked = time.monotonic()
                (await client.get("/healthz")).raise_for_status()
                took.append(1000 * (time.monotonic() - asked))
        seconds = time.monotonic() - began
        tg.cancel_scope.cancel()
    came = 0.0 if output is None or not output.tail else 105 * int(output.tail[-1].split()[0]) / seconds / 1e6
    return Answers(beside, statistics.median(took), statistics.quantiles(took, n=100)[98], came)


async def flood(output: Output) -> None:
    async with running(Command((sys.executable, "-c", FLOOD)), output=output, grace=0.5) as process:
        await process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, Path("/dev/null").open("w") as nowhere:
        folder = Path(name)
        first = feeds(folder, nowhere)
        loud = Output(
            "x", file=LogFile(folder / "flood.log"), terminal=terminal_sink(nowhere), redact=redactor(SECRETS)
        )
        second = [anyio.run(answers, "nothing", None), anyio.run(answers, "10 MB/s of output", loud)]
    if asked.json:
        print(json.dumps({"feed": [asdict(one) for one in first], "api": [asdict(one) for one in second]}))
        return
    print("| output goes to | MB/s |\n|---|---|")
    print("\n".join(f"| {one.way} | {one.mb_per_s:.0f} |" for one in first))
    print("\n| beside the API | median ms | 99th percentile ms | taken in, MB/s |\n|---|---|---|---|")
    for row in second:
        print(f"| {row.beside} | {row.median_ms:.2f} | {row.p99_ms:.2f} | {row.taken_mb_per_s:.1f} |")


if __name__ == "__main__":
    main()
