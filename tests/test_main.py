"""The first and the last moment of the command."""

import subprocess
import sys

import pytest

SCRIPT = """
import atexit, sys
from supervisor import __main__
from supervisor.cli import main
def run():
    print("stopped")
    sys.exit({code})
main.run = run
atexit.register(print, "taken apart")
sys.argv[1:] = [{command!r}]
__main__.main()
"""


@pytest.mark.parametrize("code", [0, 3])
def test_up_shows_its_last_words_and_is_gone_without_taking_python_apart(code: int) -> None:
    ended = ending("up", code)

    assert (ended.returncode, ended.stdout) == (code, "stopped\n")


def test_other_commands_end_as_programs_do() -> None:
    ended = ending("status", 3)

    assert (ended.returncode, ended.stdout) == (3, "stopped\ntaken apart\n")


def ending(command: str, code: int) -> subprocess.CompletedProcess[str]:
    """Its output goes into a pipe, so it lies in a buffer until somebody flushes it."""
    script = SCRIPT.format(command=command, code=code)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
