"""In processes of their own: logging is set up once for a whole process."""

import json
import subprocess
import sys
from pathlib import Path

SPEAK = """
import logging, sys, structlog
from supervisor.log import set_up_logging

set_up_logging(*sys.argv[1:])
log = structlog.get_logger()
log.debug("a detail")
log.info("service ready", service="engine", after=0.8)
try:
    1 / 0
except ZeroDivisionError:
    log.exception("it broke")
logging.getLogger("library").info("chatter")
logging.getLogger("library").warning("a library warns")
"""


def spoken(level: str, form: str) -> list[str]:
    """The lines on stderr, after nothing on stdout."""
    argv = [sys.executable, "-c", SPEAK, level, form]
    ended = subprocess.run(argv, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True)
    assert ended.stdout == ""
    return ended.stderr.splitlines()


def test_away_from_a_terminal_every_event_is_one_json_line() -> None:
    ready, broke, library = spoken("info", "auto")

    event = json.loads(ready)
    assert event.pop("time").endswith("Z")
    assert event == {"service": "clawlama", "line": "service ready", "level": "info", "about": "engine", "after": 0.8}
    assert "ZeroDivisionError" in json.loads(broke)["exception"]
    assert json.loads(library)["line"] == "library: a library warns"


def test_for_people_an_event_is_a_readable_line() -> None:
    ready = spoken("info", "text")[0]

    assert "service ready" in ready
    assert "service=engine" in ready
    assert "\x1b" not in ready


def test_the_level_says_how_much() -> None:
    said = {level: len(spoken(level, "json")) for level in ("debug", "info", "error")}

    assert said == {"debug": 4, "info": 3, "error": 1}


KEPT = """
import sys, structlog
from pathlib import Path
from supervisor.log import also_told, set_up_logging
from supervisor.services.output import LogFile, Output

set_up_logging("info", "json")
log = structlog.get_logger()
output = Output("clawlama", file=LogFile(Path(sys.argv[1])), redact=lambda text: text.replace("s3cret", "***"))
log.info("before")
with also_told(lambda text: output.feed(f"{text}\\n".encode())):
    log.debug("a detail")
    log.warning("service failed", service="engine", key="s3cret")
    try:
        1 / 0
    except ZeroDivisionError:
        log.exception("it broke")
log.info("after")
"""


def run(code: str, *arguments: object) -> list[dict[str, str]]:
    """The events on stderr, which are JSON."""
    argv = [sys.executable, "-c", code, *map(str, arguments)]
    ended = subprocess.run(argv, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True)
    return [json.loads(line) for line in ended.stderr.splitlines()]


def test_events_are_kept_in_a_file_as_readable_lines(tmp_path: Path) -> None:
    told = run(KEPT, tmp_path / "clawlama.log")

    kept = (tmp_path / "clawlama.log").read_text().splitlines()
    detail, failed, broke, *trace = [line.partition(" ")[2] for line in kept]
    assert [event["line"] for event in told] == ["before", "service failed", "it broke", "after"]
    assert "a detail" in detail
    assert "service failed" in failed
    assert "service=engine" in failed
    assert "key=***" in failed
    assert "it broke" in broke
    assert trace[-1] == "ZeroDivisionError: division by zero"


def test_the_level_can_be_changed_while_everything_runs() -> None:
    told = run(
        "import structlog; from supervisor.log import set_level, set_up_logging; set_up_logging('warning');"
        "log = structlog.get_logger(); log.info('one'); set_level('info'); log.info('two'); set_level('error');"
        "log.warning('three'); log.error('four')"
    )

    assert [event["line"] for event in told] == ["two", "four"]


def test_a_disk_that_takes_no_log_is_said_once_and_is_no_reason_to_fail() -> None:
    told = [event["line"] for event in run(KEPT, "/dev/full")]

    assert told.count("log file cannot be written; its lines are lost") == 1


def test_a_secret_in_an_event_is_not_shown() -> None:
    (event,) = run(
        "import structlog; from supervisor.log import set_up_logging; set_up_logging();"
        "structlog.get_logger().warning('refused', url='http://me:pass@proxy/')"
    )

    assert event["url"] == "http://[secret]@proxy/"
