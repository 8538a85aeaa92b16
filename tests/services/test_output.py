import io
import json
import resource
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

import anyio
import pytest

from supervisor.services.output import CUT, LONGEST_LINE, TAIL, LogFile, Output, Sink, json_sink, terminal_sink
from supervisor.services.process import running
from tests.services.children import python, sh


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def fed(*blocks: bytes) -> list[str]:
    output = Output("x")
    for block in blocks:
        output.feed(block)
    output.finish()
    return list(output.tail)


def test_lines_arrive_whole_however_the_pipe_cuts_them() -> None:
    assert fed(b"on", b"e\ntw", b"o\n", b"\nlast") == ["one", "two", "", "last"]


def test_bytes_that_are_not_text_are_tolerated() -> None:
    assert fed(b"ok \xff\xfe\n", "é".encode()[:1], "é".encode()[1:] + b"\n") == ["ok \ufffd\ufffd", "é"]


def test_a_child_cannot_play_with_our_terminal() -> None:
    assert fed(b"\x1b[31mred\x1b[0m \x1b]0;title\x07bell\x07 tab\tend\n\x1b]0;open\nnext\n") == [
        "red bell tab\tend",
        "",
        "next",
    ]


def test_of_a_progress_bar_only_the_last_state_is_kept() -> None:
    assert fed(b"10 %\r50 %\r", b"90 %\r100 %\r\n", b"done\r\n") == ["100 %", "done"]


def test_a_very_long_line_is_cut_and_the_next_is_whole() -> None:
    lines = fed(*[b"x" * 50_000] * 20, b"\nnext\n")

    assert lines == ["x" * LONGEST_LINE + CUT, "next"]


def test_the_tail_holds_the_last_lines_only() -> None:
    lines = fed(b"".join(b"%d\n" % n for n in range(1000)))

    assert lines == [str(n) for n in range(1000 - TAIL, 1000)]


def test_what_is_redacted_reaches_nobody(tmp_path: Path) -> None:
    shown: list[str] = []

    def sink(_: str, lines: Sequence[str]) -> None:
        shown.extend(lines)

    output = Output(
        "x", file=LogFile(tmp_path / "log"), terminal=sink, redact=lambda text: text.replace("s3cret", "***")
    )
    output.feed(b"token s3cret\nfine\n")
    output.finish()

    assert list(output.tail) == shown == ["token ***", "fine"]
    assert "s3cret" not in (tmp_path / "log").read_text()


def test_log_lines_carry_the_time_and_are_private(tmp_path: Path) -> None:
    file = LogFile(tmp_path / "logs" / "engine.log")
    file.write(["hello"])
    file.close()

    stamp, _, text = file.path.read_text().partition(" ")
    assert text == "hello\n"
    assert stamp.endswith("Z")
    assert file.path.stat().st_mode & 0o777 == 0o600


def test_a_log_is_rotated_by_size_without_losing_a_recent_line(tmp_path: Path) -> None:
    file = LogFile(tmp_path / "log", limit=1000, files=3)
    for n in range(500):
        file.write([f"line {n}"])
    file.write([f"block {n}" for n in range(20)])
    file.close()

    kept = [tmp_path / "log.2", tmp_path / "log.1", tmp_path / "log"]
    lines = "".join(path.read_text() for path in kept).splitlines()
    expected = [*(f"line {n}" for n in range(500)), *(f"block {n}" for n in range(20))]
    assert sorted(tmp_path.iterdir()) == sorted(kept)
    assert all(path.stat().st_size <= 1000 for path in kept)
    assert [line.partition(" ")[2] for line in lines] == expected[-len(lines) :]


def test_a_reopened_log_is_continued(tmp_path: Path) -> None:
    for text in ("one", "two"):
        file = LogFile(tmp_path / "log")
        file.write([text])
        file.close()

    assert [line.split()[1] for line in (tmp_path / "log").read_text().splitlines()] == ["one", "two"]


def test_a_disk_that_takes_nothing_costs_only_the_lines(tmp_path: Path) -> None:
    output = Output("x", file=LogFile(Path("/dev/full")))
    output.feed(b"one\n")
    output.feed(b"two\n")
    output.finish()

    assert list(output.tail) == ["one", "two"]


def test_each_line_on_the_terminal_names_its_service() -> None:
    plain, colourful = io.StringIO(), Terminal()
    for stream in (plain, colourful):
        terminal_sink(stream, width=6)("engine", ["one", "two"])

    assert plain.getvalue() == "engine │ one\nengine │ two\n"
    assert colourful.getvalue().count("\x1b[0m") == 2


def test_the_terminal_is_not_told_the_same_again_and_again() -> None:
    stream = io.StringIO()
    show = terminal_sink(stream, width=6)

    show("engine", ["low memory", "ready"])
    show("engine", ["low memory"])
    show("other", ["low memory"])
    show("engine", [str(number) for number in range(20)])
    show("engine", ["low memory"])

    told = [line.split(" │ ") for line in stream.getvalue().splitlines() if "low memory" in line]
    assert [name.strip() for name, _ in told] == ["engine", "other", "engine"]


def test_programs_get_an_object_for_each_line() -> None:
    stream = io.StringIO()

    json_sink(stream)("engine", ["plain", 'say "é" \\ \t end', "\U0001f60a \ufffd"])

    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["service"], line["line"]) for line in lines] == [
        ("engine", "plain"),
        ("engine", 'say "é" \\ \t end'),
        ("engine", "\U0001f60a \ufffd"),
    ]
    assert {line["time"][-1] for line in lines} == {"Z"}


def test_a_disk_that_fills_up_keeps_whole_lines_and_takes_new_ones_later(tmp_path: Path) -> None:
    before, size = resource.getrlimit(resource.RLIMIT_FSIZE), 10_000
    file = LogFile(tmp_path / "log")
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))  # past it, a file takes no more
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        for n in range(500):
            file.write([f"line {n:03}" + "x" * 60])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    file.write(["later"])
    file.close()

    lines = (tmp_path / "log").read_text().splitlines()
    assert all(line.endswith("x" * 60) for line in lines[:-1])
    assert lines[-1].endswith(" later")


@pytest.mark.parametrize("sink", [terminal_sink, json_sink])
@pytest.mark.parametrize("problem", [BrokenPipeError, ValueError("I/O operation on closed file")])
def test_a_terminal_that_is_gone_is_no_reason_to_fail(problem: Exception, sink: Callable[[TextIO], Sink]) -> None:
    class Gone(io.StringIO):
        def flush(self) -> None:
            raise problem

    sink(Gone())("engine", ["hello"])


@pytest.mark.anyio
async def test_both_streams_of_a_child_are_collected_to_the_last_word() -> None:
    output = Output("shell")

    with anyio.fail_after(20):
        async with running(sh("echo out; echo err >&2; printf unfinished"), output=output) as process:
            await process.wait()

    assert list(output.tail) == ["out", "err", "unfinished"]


@pytest.mark.anyio
async def test_a_flood_is_taken_in_completely(tmp_path: Path) -> None:
    file = LogFile(tmp_path / "log", limit=10**9)
    flood = "import sys\nfor n in range(200_000): sys.stdout.write(f'{n:040}\\n')"

    with anyio.fail_after(60):
        async with running(python(flood), output=Output("flood", file=file)) as process:
            await process.wait()

    lines = (tmp_path / "log").read_text().splitlines()
    assert [int(line.split()[1]) for line in lines] == list(range(200_000))
