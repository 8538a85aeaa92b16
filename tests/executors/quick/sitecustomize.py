"""On the path of a trainer, Python reads this first: its lessons are then over at once, and nothing heavy is loaded."""

import os
import sys
from pathlib import Path
from time import sleep
from types import ModuleType
from typing import Any


def run_lesson(job: Any, report: Any, **_others: Any) -> Any:
    """Act as the job's name says, and tell who we are."""
    from supervisor.distill.job import DistillResult, LoraShape

    sys.stdout.write(f"{job.id}\n")
    (Path(os.environ["TMPDIR"]) / "left").touch()
    report(0.5, job.id)
    if "long" in job.id:
        sleep(60)
    if "broken" in job.id:
        raise ZeroDivisionError
    who = {"pid": float(os.getpid())}
    return DistillResult(job=job.id, step=1, metrics=who, probes=(), lora=LoraShape(), seconds={}, peak_rss=0)


lesson = ModuleType("supervisor.distill.lesson")
lesson.run_lesson = run_lesson  # type: ignore[attr-defined]
sys.modules["supervisor.distill.lesson"] = lesson
torch = ModuleType("torch")
torch.cuda = cuda = ModuleType("torch.cuda")  # type: ignore[attr-defined]
cuda.is_initialized = lambda: "GPU" in os.environ  # type: ignore[attr-defined]
sys.modules["torch"] = torch
