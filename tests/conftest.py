from collections.abc import Iterator

import pytest

from supervisor.services.reaper import bury_orphans


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def no_orphan_stays_dead() -> Iterator[None]:
    """A test that kills a supervisor leaves us its offspring, once any test has made us a subreaper."""
    yield
    bury_orphans()
