"""Memory of the stand-in: how many models, for how long, and in which order requests get their turn."""

import json
from collections.abc import AsyncGenerator
from datetime import datetime
from pathlib import Path

import anyio
import psutil
import pytest

from tests.contract.ollama.subject import GREEDY, QUESTION, Subject, connected, with_base
from tests.fakes.ollama.server import TINY_CHAT, OllamaServer, ollama_server

pytestmark = pytest.mark.anyio
ENV = {"OLLAMA_MAX_LOADED_MODELS": "1", "OLLAMA_CONTEXT_LENGTH": "768", "OLLAMA_KEEP_ALIVE": "11m"}
LONG = {"messages": QUESTION, "options": {"temperature": 2.0, "num_predict": 600}}


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[OllamaServer, None]:
    async with ollama_server(tmp_path_factory.mktemp("memory"), env=ENV) as found:
        yield found


@pytest.fixture
async def subject(server: OllamaServer) -> AsyncGenerator[Subject, None]:
    async with connected(server.url, "clawlama") as found, with_base(found, TINY_CHAT):
        yield found


async def other_weights(subject: Subject, folder: Path) -> str:
    """A second model: the same bytes and one more, which is another blob."""
    file = folder / "other.gguf"
    file.write_bytes(TINY_CHAT.read_bytes() + b"\0")
    digest = await subject.upload(file)
    await subject.client.create(model=subject.name("other"), files={file.name: digest})
    return subject.name("other")


async def test_one_model_too_many_unloads_another(subject: Subject, tmp_path: Path) -> None:
    other = await other_weights(subject, tmp_path)
    await subject.said(subject.base)

    await subject.said(other)

    assert list(await subject.loaded()) == [other]
    await subject.unload(other)


async def test_the_context_of_the_environment_counts_where_the_model_says_nothing(
    subject: Subject, tmp_path: Path
) -> None:
    other = await other_weights(subject, tmp_path)
    await subject.said(other)
    assert (await subject.loaded())[other]["context_length"] == 768

    await subject.said(subject.base)

    assert (await subject.loaded())[subject.base]["context_length"] == 1024


async def test_the_keep_alive_of_the_environment_counts_unless_the_request_has_one(subject: Subject) -> None:
    await subject.said(subject.base)
    by_environment = datetime.fromisoformat((await subject.loaded())[subject.base]["expires_at"])

    await subject.said(subject.base, keep_alive="2m")

    assert datetime.fromisoformat((await subject.loaded())[subject.base]["expires_at"]) < by_environment


async def test_a_model_goes_when_its_time_is_up(subject: Subject) -> None:
    await subject.said(subject.base, keep_alive="1ms")

    with anyio.fail_after(30):
        while await subject.loaded():  # noqa: ASYNC110 - nothing announces it
            await anyio.sleep(0.01)


async def test_a_running_reply_is_finished_before_the_model_is_loaded_anew(subject: Subject) -> None:
    order: list[str] = []
    begun = anyio.Event()

    async def long_reply() -> None:
        async with subject.http.stream("POST", "/api/chat", json={"model": subject.base, **LONG}) as answer:
            async for line in answer.aiter_lines():
                begun.set()
                if json.loads(line)["done"]:
                    order.append("reply")

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(long_reply)
            await begun.wait()
            await subject.said(subject.base, options={**GREEDY, "num_ctx": 512, "num_predict": 1})
            order.append("reload")

    assert order == ["reply", "reload"]


async def test_ruling_out_context_shift_starts_another_runner(subject: Subject, server: OllamaServer) -> None:
    assert server.process is not None
    seen = []
    for shift in (True, True, False, True):
        await subject.said(subject.base, shift=shift)
        seen.append([child.pid for child in psutil.Process(server.process.pid).children()])

    assert seen[0] == seen[1]
    assert len({tuple(pids) for pids in seen[1:]}) == 3


async def test_terminating_the_server_ends_its_replies_and_runners_at_once(
    subject: Subject, server: OllamaServer
) -> None:
    assert server.process is not None
    async with subject.http.stream("POST", "/api/chat", json={"model": subject.base, **LONG}) as answer:
        async for _ in answer.aiter_lines():
            break
        runners = psutil.Process(server.process.pid).children()

        with anyio.fail_after(10):
            await server.stop()

    gone, _ = psutil.wait_procs(runners, timeout=10)
    assert gone == runners
    await server.start()
