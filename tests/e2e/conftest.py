import pytest

from tests.e2e.product import NODE

pytest.register_assert_rewrite("tests.e2e.checks", "tests.e2e.terminal")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True, scope="session")
def openclaw_installed() -> None:
    if not NODE.is_dir():
        pytest.skip("OpenClaw is not installed; scripts/install_node.sh does it")
