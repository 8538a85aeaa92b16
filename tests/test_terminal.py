import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from time import sleep
from typing import TextIO

from supervisor.terminal import WAITING, Unhurried

ROOT = Path(__file__).parents[1]

FLOOD = """
import sys
from supervisor.terminal import patient_stderr

with patient_stderr():
    for n in range(200_000):
        print(f"{n:060}", file=sys.stderr)
    print("through")
    sys.stdout.flush()
    assert not sys.stderr.isatty()
"""


@contextmanager
def pipe() -> Iterator[tuple[TextIO, TextIO]]:
    reader, writer = os.pipe()
    with os.fdopen(reader) as seen, os.fdopen(writer, "w") as end:
        yield seen, end


def test_what_is_written_is_shown_in_order_also_after_the_end(tmp_path: Path) -> None:
    with (tmp_path / "shown").open("w") as file:
        shown = Unhurried(file)
        for n in range(10_000):
            shown.write(f"{n}\n")
        shown.leave()
        shown.write("last words\n")

    assert (tmp_path / "shown").read_text() == "".join(f"{n}\n" for n in range(10_000)) + "last words\n"


def test_a_terminal_that_nobody_reads_stops_nothing() -> None:
    with pipe() as (_, end):
        argv = [sys.executable, "-c", FLOOD]
        ended = subprocess.run(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=end, timeout=60, check=True)

    assert ended.stdout == b"through\n"


def test_how_much_was_not_shown_is_said_once_somebody_reads() -> None:
    lines: list[str] = []
    with pipe() as (seen, end):
        shown = Unhurried(end)
        for n in range(2 * WAITING // 60):
            shown.write(f"{n:059}\n")
        reader = Thread(target=lambda: lines.extend(seen))
        reader.start()
        for _ in range(3000):  # until it is heard that somebody reads
            shown.write("later\n")
            if any("not shown" in line for line in lines[-10:]):
                break
            sleep(0.01)
        shown.leave()
        end.close()
        reader.join(10)

    note = next(line for line in lines if "not shown" in line)  # a slow reader may miss more after that
    before = lines[: lines.index(note)]
    assert note.endswith(" lines were not shown: nobody read them]\n")
    assert [int(line) for line in before] == list(range(len(before)))


def test_a_terminal_that_was_closed_is_no_reason_to_fail() -> None:
    with pipe() as (seen, end):
        shown = Unhurried(end)
        seen.close()
        shown.write("to nobody\n")
        shown.leave()
