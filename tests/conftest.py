import signal
from collections.abc import Iterator

import pytest

from supervisor.services.reaper import bury_orphans

# A shell without job control ignores Ctrl-C for what it starts in the background, and so would all that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def no_orphan_stays_dead() -> Iterator[None]:
    """A test that kills a supervisor leaves us its offspring, once any test has made us a subreaper."""
    yield
    bury_orphans()
