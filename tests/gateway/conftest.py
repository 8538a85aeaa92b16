"""A real OpenClaw gateway between a fake model and a fake learning API, one per module that asks for it."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from supervisor.gateway.find import Runtime, find_runtime
from tests.gateway.world import World, gateway_world

PREFIX = Path(__file__).parents[2] / ".node"


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def runtime() -> Runtime:
    if not PREFIX.is_dir():
        pytest.skip("OpenClaw is not installed; scripts/install_node.sh does it")
    return find_runtime(PREFIX, os.environ["PATH"])


@pytest.fixture(scope="module")
async def world(anyio_backend: str, runtime: Runtime, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with gateway_world(runtime, tmp_path_factory.mktemp("world")) as made:
        yield made
