"""In processes of their own: logging is set up once for a whole process."""

import json
import subprocess
import sys
from pathlib import Path

SPEAK = """
import logging, sys, structlog
from supervisor.log import set_up_logging

set_up_logging(sys.argv[1], json={"json": True, "text": False, "ask": None}[sys.argv[2]])
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
    ready, broke, library = spoken("info", "ask")

    event = json.loads(ready)
    assert event.pop("timestamp").endswith("Z")
    assert event == {"event": "service ready", "level": "info", "service": "engine", "after": 0.8}
    assert "ZeroDivisionError" in json.loads(broke)["exception"]
    assert library == "library: a library warns"


def test_for_people_an_event_is_a_readable_line() -> None:
    ready = spoken("info", "text")[0]

    assert "service ready" in ready
    assert "service=engine" in ready
    assert "\x1b" not in ready


def test_the_level_says_how_much() -> None:
    said = {level: len(spoken(level, "json")) for level in ("debug", "info", "error")}

    assert said == {"debug": 4, "info": 3, "error": 1}
