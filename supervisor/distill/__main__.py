"""``python -m supervisor.distill FOLDER``: run the job in the folder.

Exit code 0 and ``result.json``, or 1 and ``error.json``.
"""

import json
import sys
from pathlib import Path
from time import monotonic

from pydantic import ValidationError

from supervisor.distill.job import FAILURE, JOB, PROGRESS, RESULT, DistillFailure, DistillJob, Progress
from supervisor.errors import DistillError


def main(folder: Path) -> int:
    try:
        job = DistillJob.model_validate_json((folder / JOB).read_text())
        with (folder / PROGRESS).open("a") as progress:

            def report(fraction: float, step: str) -> None:
                progress.write(Progress(fraction=round(min(fraction, 1.0), 4), step=step).model_dump_json() + "\n")
                progress.flush()

            report(0.0, "loading the trainer")
            started = monotonic()
            from supervisor.distill.lesson import run_lesson  # noqa: PLC0415 - torch, seconds: announced before

            result = run_lesson(job, report, import_seconds=monotonic() - started)
    except (DistillError, ValidationError, OSError) as exc:
        (folder / FAILURE).write_text(DistillFailure(problem=str(exc)).model_dump_json())
        return 1
    (folder / RESULT).write_text(json.dumps(result.model_dump(mode="json")))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
