from collections.abc import Iterator

import pytest

from tests.packs.depot import Depot, depot


@pytest.fixture
def shop() -> Iterator[Depot]:
    with depot() as made:
        yield made
