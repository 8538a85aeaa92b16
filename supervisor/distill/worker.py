"""A trainer that takes lesson after lesson: imports and the base model are paid for once.

The other side of ``link`` sends job folders, one a line, and gets each line back when that lesson went well. What
fails ends the process, with the code that a single lesson ends with: the base may be in pieces then, and the next
process has none of it. A lesson on a GPU is the last one, too: our mere being there would keep some of its memory.
"""

import ctypes
import gc
import json
import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from time import monotonic

from pydantic import ValidationError

from supervisor.distill.job import FAILURE, HUB, JOB, PROGRESS, RESULT, DistillFailure, DistillJob, Progress
from supervisor.distill.shelf import Shelf
from supervisor.errors import DistillError


def work(link: socket.socket) -> int:
    """Until a lesson fails or the other side is gone; the exit code."""
    link.set_inheritable(False)
    orders: SimpleQueue[Path] = SimpleQueue()
    Thread(target=listen, args=(link, orders), daemon=True).start()
    shelf = Shelf()
    while True:
        folder = orders.get()
        code = lesson_in(folder, shelf)
        if code or holds_gpu():
            return code
        tidy()
        link.sendall(f"{folder}\n".encode())


def listen(link: socket.socket, orders: SimpleQueue[Path]) -> None:
    """Pass the folders on. The end of the other side is ours, in the middle of a lesson too: nobody waits for it."""
    with suppress(OSError), link.makefile() as lines:
        for line in lines:
            orders.put(Path(line.rstrip("\n")))
    os._exit(0)


def lesson_in(folder: Path, shelf: Shelf) -> int:
    """0 and ``result.json``, or 1 and ``error.json``."""
    forget_peak()
    try:
        job = DistillJob.model_validate_json((folder / JOB).read_text())
        with (folder / PROGRESS).open("a") as progress:

            def report(fraction: float, step: str) -> None:
                progress.write(Progress(fraction=round(min(fraction, 1.0), 4), step=step).model_dump_json() + "\n")
                progress.flush()

            report(0.0, "loading the trainer")
            started = monotonic()
            from supervisor.distill.lesson import run_lesson  # noqa: PLC0415 - torch, seconds: announced before

            result = run_lesson(at_hand(job, report), report, import_seconds=monotonic() - started, shelf=shelf)
    except (DistillError, ValidationError, OSError) as exc:
        (folder / FAILURE).write_text(DistillFailure(problem=str(exc)).model_dump_json())
        return 1
    (folder / RESULT).write_text(json.dumps(result.model_dump(mode="json")))
    return 0


def at_hand(job: DistillJob, report: Callable[[float, str], None]) -> DistillJob:
    """The job with its base model on this machine."""
    if not str(job.base).startswith(HUB):
        return job
    from supervisor.distill.hub import fetched  # noqa: PLC0415 - takes its time, and few need it

    report(0.02, f"fetching {job.base}")
    return job.model_copy(update={"base": fetched(job.base)})


def forget_peak() -> None:
    """Let the peak of our memory be that of the coming lesson (proc_pid_clear_refs(5))."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def tidy() -> None:
    """Give back what the lesson took; nobody knows when the next one comes."""
    gc.collect()
    sys.stdout.flush()
    with suppress(AttributeError, OSError):  # a C library without it
        ctypes.CDLL(None).malloc_trim(0)


def holds_gpu() -> bool:
    import torch  # noqa: PLC0415 - the lesson has loaded it

    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]
