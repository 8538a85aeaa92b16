from pathlib import Path

import anyio
import pytest

from supervisor.services.output import Output
from supervisor.services.process import running
from supervisor.services.status import used
from tests.services.children import pid_in, python, until

BUSY = """
import os, sys
while sum(os.times()[:4]) < 0.2: pass
if os.fork() == 0:
    while sum(os.times()[:2]) < 0.2: pass
    os._exit(0)
os.wait()
open(sys.argv[1], "w").write(f"{os.getpid()}\\n")
import time; time.sleep(60)
"""


@pytest.mark.anyio
async def test_a_session_is_told_with_the_time_of_children_that_have_ended(tmp_path: Path) -> None:
    with anyio.fail_after(40):
        async with running(python(BUSY, str(tmp_path / "pid")), output=Output("busy"), grace=0.1) as process:
            await pid_in(tmp_path / "pid")
            rss, cpu = used(process.pid)

    assert rss > 2**20
    assert 0.35 < cpu < 5


@pytest.mark.anyio
async def test_what_has_ended_uses_nothing() -> None:
    with anyio.fail_after(20):
        async with running(python("pass"), output=Output("short")) as process:
            await process.wait()
        await until(lambda: used(process.pid) == (0, 0))
