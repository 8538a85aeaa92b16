"""The table of processes, while processes end."""

import os
from pathlib import Path

import pytest

from supervisor.services.proc import snapshot


@pytest.mark.parametrize("ended", [FileNotFoundError, ProcessLookupError])
@pytest.mark.parametrize("call", ["open", "read"])
def test_a_process_that_ends_as_it_is_looked_at_is_left_out(
    ended: type[OSError], call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = getattr(os, call)

    def of_init(what: str | int, *more: int) -> object:
        path = what if isinstance(what, str) else str(Path(f"/proc/self/fd/{what}").readlink())
        if path == "/proc/1/stat":
            raise ended
        return real(what, *more)

    monkeypatch.setattr(os, call, of_init)
    table = snapshot()

    assert 1 not in table
    assert os.getpid() in table
