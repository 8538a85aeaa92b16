"""The contract runs against the stand-in, and unchanged against any Ollama:

    CLAWLAMA_TEST_OLLAMA=http://127.0.0.1:11434 python -m pytest tests/contract/ollama -k "not standin"

Nothing there is touched but models under a name of our own, which are deleted afterwards. Where versions rightfully
differ a test says what it saw; the summary at the end lists that.
"""

import os
import secrets
from collections.abc import AsyncGenerator, Callable, Generator
from pathlib import Path

import pytest

from tests.contract.ollama.adapters import write_adapter
from tests.contract.ollama.subject import Subject, connected, with_base
from tests.fakes.ollama.server import TINY_CHAT, ollama_server

OUTCOMES = pytest.StashKey[dict[str, str]]()


@pytest.fixture(scope="package")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="package")
async def server_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[str, None]:
    if given := os.environ.get("CLAWLAMA_TEST_OLLAMA"):
        yield given
        return
    async with ollama_server(tmp_path_factory.mktemp("ollama")) as server:
        yield server.url


@pytest.fixture(scope="package")
async def subject(server_url: str) -> AsyncGenerator[Subject, None]:
    prefix = f"clawlama-contract-{secrets.token_hex(4)}"
    async with connected(server_url, prefix) as found, with_base(found, TINY_CHAT):
        yield found


@pytest.fixture(scope="session")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_adapter(tmp_path_factory.mktemp("adapter") / "adapter.gguf", TINY_CHAT)


@pytest.fixture
def observed(
    request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> Generator[Callable[[str], None], None, None]:
    """Says which of several rightful outcomes a server had; it is in the report and in the summary."""
    outcomes = request.config.stash.setdefault(OUTCOMES, {})

    def record(outcome: str) -> None:
        record_property("outcome", outcome)
        outcomes[request.node.name] = outcome

    yield record
    assert request.node.name in outcomes, "this test has to say which outcome it saw"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    outcomes = config.stash.get(OUTCOMES, {})
    if outcomes:
        terminalreporter.section("what this Ollama does where versions differ")
    for name, outcome in sorted(outcomes.items()):
        terminalreporter.write_line(f"{name}: {outcome}")
