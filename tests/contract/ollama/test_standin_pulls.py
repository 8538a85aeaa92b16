"""Pulls by the stand-in: real bytes from a registry, and every way in which that goes wrong."""

import json
import shutil
import signal
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from tests.fakes.ollama.quirks import Quirks
from tests.fakes.ollama.registry import publish
from tests.fakes.ollama.server import TINY_CHAT, OllamaServer, Served, ollama_server, registry_server
from tests.fakes.ollama.store import Manifest

pytestmark = pytest.mark.anyio
SIZE = TINY_CHAT.stat().st_size
SLOW = SIZE // 2  # bytes per second: long enough to step in


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("registry")


@pytest.fixture(scope="module")
def published(shelf: Path) -> Manifest:
    return publish(shelf, "library/tiny", "latest", TINY_CHAT, params={"temperature": 0})


@pytest.fixture(scope="module")
async def registry(shelf: Path, published: Manifest) -> AsyncGenerator[Served, None]:
    async with registry_server(shelf) as server:
        yield server


@pytest.fixture(scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[OllamaServer, None]:
    async with ollama_server(tmp_path_factory.mktemp("ollama")) as found:
        yield found


@pytest.fixture
async def server(running: OllamaServer, registry: Served) -> OllamaServer:
    """With an empty store and a network that works."""
    shutil.rmtree(running.models / "manifests", ignore_errors=True)
    for blob in (running.models / "blobs").iterdir():
        blob.unlink()
    await running.quirks(**Quirks(registry=registry.url, retry_seconds=0.01).model_dump())
    return running


async def pull(server: OllamaServer, model: str = "tiny") -> list[dict[str, Any]]:
    with anyio.fail_after(60):
        async with httpx.AsyncClient(base_url=server.url, timeout=60, trust_env=False) as client:
            answer = await client.post("/api/pull", json={"model": model})
    return [json.loads(line) for line in answer.text.splitlines()]


async def pull_until(server: OllamaServer, done: int) -> None:
    """Hang up once so many bytes are there."""
    with anyio.fail_after(60):
        async with (
            httpx.AsyncClient(base_url=server.url, timeout=60, trust_env=False) as client,
            client.stream("POST", "/api/pull", json={"model": "tiny"}) as answer,
        ):
            async for line in answer.aiter_lines():
                if json.loads(line).get("completed", 0) >= done:
                    return


def weights(server: OllamaServer, published: Manifest) -> Path:
    return server.models / "blobs" / published.layers[0].digest.replace(":", "-")


async def partial_gone(path: Path, part: dict[str, int]) -> None:
    """Wait until the server has written down how far it came."""
    with anyio.fail_after(30):
        while part["Completed"] == 0:
            await anyio.sleep(0.01)
            part |= json.loads(Path(f"{path}-partial-0").read_text())


async def test_a_pull_brings_the_registrys_bytes_and_its_manifest(server: OllamaServer, published: Manifest) -> None:
    lines = await pull(server)

    statuses = [line["status"] for line in lines]
    assert statuses[0] == "pulling manifest"
    assert statuses[-3:] == ["verifying sha256 digest", "writing manifest", "success"]
    assert weights(server, published).read_bytes() == TINY_CHAT.read_bytes()
    manifest = server.models / "manifests/registry.ollama.ai/library/tiny/latest"
    assert json.loads(manifest.read_text())["layers"][0]["digest"] == published.layers[0].digest


async def test_progress_counts_up_to_the_size_of_each_layer(server: OllamaServer) -> None:
    await server.quirks(pull_bytes_per_second=SIZE * 2)

    lines = [line for line in await pull(server) if line.get("total") == SIZE]

    counts = [line.get("completed", 0) for line in lines]
    assert counts == sorted(counts)
    assert counts[-1] == SIZE
    assert any(0 < count < SIZE for count in counts)


async def test_a_second_pull_finds_everything_there(server: OllamaServer) -> None:
    await pull(server)
    await server.quirks(cut_after_bytes=0, cut_times=-1)  # nothing can be downloaded any more

    assert (await pull(server))[-1] == {"status": "success"}


async def test_an_unknown_model_is_named_so(server: OllamaServer) -> None:
    assert (await pull(server, "nobody"))[-1] == {"error": "pull model manifest: file does not exist"}


async def test_without_a_network_the_host_is_not_found(server: OllamaServer) -> None:
    await server.quirks(registry=None)

    error = (await pull(server))[-1]["error"]
    assert error.startswith('pull model manifest: Get "https://registry.ollama.ai/v2/library/tiny/manifests/latest": ')
    assert error.endswith("no such host")


async def test_a_registry_in_trouble_passes_its_status_on_and_recovers(server: OllamaServer) -> None:
    await server.quirks(registry_failures=1)

    assert (await pull(server))[-1]["error"].startswith("pull model manifest: 503: ")
    assert (await pull(server))[-1] == {"status": "success"}


async def test_one_broken_connection_is_got_over(server: OllamaServer, published: Manifest) -> None:
    await server.quirks(cut_after_bytes=SIZE // 2)

    assert (await pull(server))[-1] == {"status": "success"}
    assert weights(server, published).read_bytes() == TINY_CHAT.read_bytes()


async def test_connections_that_always_break_end_the_pull(server: OllamaServer) -> None:
    await server.quirks(cut_after_bytes=0, cut_times=-1)

    assert (await pull(server))[-1]["error"].startswith("max retries exceeded: unexpected EOF")


async def test_a_full_disk_ends_the_pull(server: OllamaServer) -> None:
    await server.quirks(disk_bytes=SIZE // 2)

    assert (await pull(server))[-1]["error"].endswith("no space left on device")


async def test_wrong_bytes_are_noticed_and_thrown_away(server: OllamaServer, published: Manifest) -> None:
    await server.quirks(corrupt=True)

    assert (await pull(server))[-1]["error"].startswith("digest mismatch, file must be downloaded again: want sha256:")
    assert not weights(server, published).exists()


async def test_a_caller_that_hangs_up_stops_the_download_and_the_next_one_goes_on(
    server: OllamaServer, published: Manifest
) -> None:
    await server.quirks(pull_bytes_per_second=SLOW)
    await pull_until(server, SIZE // 4)
    path = weights(server, published)
    part: dict[str, int] = {"Completed": 0}
    await partial_gone(path, part)
    await server.quirks(pull_bytes_per_second=0)

    lines = await pull(server)

    assert lines[-1] == {"status": "success"}
    assert SIZE // 4 <= part["Completed"] < SIZE
    assert next(line for line in lines if line.get("completed"))["completed"] >= part["Completed"]
    assert path.read_bytes() == TINY_CHAT.read_bytes()


async def test_a_restart_throws_partial_downloads_away(server: OllamaServer, published: Manifest) -> None:
    await server.quirks(pull_bytes_per_second=SLOW)
    await pull_until(server, SIZE // 4)
    assert list((server.models / "blobs").glob("*-partial*"))

    await server.restart()

    assert not list((server.models / "blobs").glob("*-partial*"))


async def test_with_noprune_partial_downloads_outlive_even_a_kill(tmp_path: Path, registry: Served) -> None:
    quirks = Quirks(registry=registry.url, pull_bytes_per_second=SLOW, part_bytes=SIZE // 8)
    async with ollama_server(tmp_path / "ollama", quirks, {"OLLAMA_NOPRUNE": "1"}) as server:
        await pull_until(server, SIZE // 2)
        await server.stop(signal.SIGKILL)
        await server.start()
        await server.quirks(pull_bytes_per_second=0)

        lines = await pull(server)

    assert lines[-1] == {"status": "success"}
    first = next(line for line in lines if line.get("completed"))
    assert first["completed"] >= SIZE // 8  # whole parts are kept; those on their way were lost, as with Ollama


async def test_two_callers_share_one_download(server: OllamaServer) -> None:
    await server.quirks(pull_bytes_per_second=SIZE * 2)
    results: list[list[dict[str, Any]]] = []

    async def one() -> None:
        results.append(await pull(server))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one)
        tasks.start_soon(one)

    assert [lines[-1] for lines in results] == [{"status": "success"}] * 2
