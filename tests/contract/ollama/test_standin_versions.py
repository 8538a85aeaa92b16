"""What the stand-in does as other versions of Ollama: adapters, the layout of the store, torn manifests, queues."""

import json
import os
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import anyio
import psutil
import pytest

from tests.contract.ollama.adapters import write_adapter
from tests.contract.ollama.subject import QUESTION, Subject, connected, with_base
from tests.fakes.ollama.quirks import Quirks
from tests.fakes.ollama.server import TINY_CHAT, OllamaServer, ollama_server
from tests.fakes.ollama.store import IMAGE

pytestmark = pytest.mark.anyio
PREFIX = "clawlama"


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[OllamaServer, None]:
    async with ollama_server(tmp_path_factory.mktemp("quirky")) as found:
        yield found


@pytest.fixture
async def subject(server: OllamaServer) -> AsyncGenerator[Subject, None]:
    await server.quirks(**Quirks().model_dump())
    async with connected(server.url, PREFIX) as found, with_base(found, TINY_CHAT):
        yield found


async def tuned(subject: Subject, adapter: Path) -> str:
    digest = await subject.upload(adapter)
    name = subject.name("tuned")
    await subject.client.create(model=name, from_=subject.base, adapters={adapter.name: digest})
    return name


def manifest_file(server: OllamaServer, tag: str, layout: str = "manifests") -> Path:
    host = "ollama.com" if layout == "manifests-v2" else "registry.ollama.ai"
    return server.models / layout / host / PREFIX / "tiny" / tag


async def test_an_adapter_becomes_a_layer_of_its_own_over_the_bases_weights(
    subject: Subject, server: OllamaServer, adapter: Path
) -> None:
    await tuned(subject, adapter)

    base = json.loads(manifest_file(server, "base").read_text())["layers"]
    layers = json.loads(manifest_file(server, "tuned").read_text())["layers"]
    assert layers[0]["digest"] == base[0]["digest"]
    assert [layer["mediaType"] for layer in layers].count(IMAGE + "adapter") == 1


async def test_adapters_pile_up_when_a_tuned_model_is_the_base(
    subject: Subject, server: OllamaServer, adapter: Path
) -> None:
    name = await tuned(subject, adapter)
    digest = await subject.upload(adapter)
    await subject.client.create(model=subject.name("twice"), from_=name, adapters={adapter.name: digest})

    layers = json.loads(manifest_file(server, "twice").read_text())["layers"]
    assert [layer["mediaType"] for layer in layers].count(IMAGE + "adapter") == 2


async def test_a_later_version_refuses_new_adapters_and_serves_the_old(
    subject: Subject, server: OllamaServer, adapter: Path
) -> None:
    name = await tuned(subject, adapter)
    before = await subject.said(name)
    await server.quirks(version="0.34.1", adapters="refuse")

    answer = await subject.post("/api/create", {"model": name, "from": subject.base, "adapters": {"a.gguf": "any"}})

    assert (answer.status_code, answer.json()) == (400, {"error": "LoRA adapters are no longer supported"})
    await subject.unload(name)
    assert await subject.said(name) == before != await subject.said(subject.base)


async def test_adapters_may_be_taken_and_not_used(subject: Subject, server: OllamaServer, adapter: Path) -> None:
    await server.quirks(adapters="ignore")

    name = await tuned(subject, adapter)

    assert await subject.said(name) == await subject.said(subject.base)


async def test_adapters_may_be_taken_and_not_load(subject: Subject, server: OllamaServer, adapter: Path) -> None:
    await server.quirks(adapters="no_load")
    name = await tuned(subject, adapter)

    answer = await subject.post("/api/chat", {"model": name, "messages": QUESTION})

    assert answer.status_code == 500
    assert answer.json()["error"].startswith("llama runner process has terminated")
    assert await subject.said(subject.base)


async def test_a_broken_adapter_is_created_and_fails_when_it_is_loaded(subject: Subject, tmp_path: Path) -> None:
    content = write_adapter(tmp_path / "whole.gguf", TINY_CHAT).read_bytes()
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(content.replace(b"attn_q", b"attn_x"))
    name = await tuned(subject, broken)

    answer = await subject.post("/api/chat", {"model": name, "messages": QUESTION})

    assert answer.status_code == 500
    assert await subject.said(subject.base)


async def test_a_manifest_that_somebody_else_wrote_is_served_as_it_lies(
    subject: Subject, server: OllamaServer, adapter: Path
) -> None:
    name = await tuned(subject, adapter)
    said = await subject.said(name)
    file = manifest_file(server, "handmade")
    file.write_bytes(manifest_file(server, "tuned").read_bytes())
    await server.quirks(adapters="refuse")

    assert subject.name("handmade") in [model.model for model in (await subject.client.list()).models]
    assert await subject.said(subject.name("handmade")) == said


@pytest.mark.parametrize("layout", ["manifests", "manifests-v2"])
async def test_a_manifest_being_written_can_be_met_half(subject: Subject, server: OllamaServer, layout: str) -> None:
    await server.quirks(layout=layout)
    await subject.client.create(model=subject.name("torn"), from_=subject.base)
    await server.quirks(torn_seconds=0.5)
    seen: list[int] = []

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(subject.client.copy, subject.base, subject.name("torn"))
        with anyio.fail_after(30):
            while 200 not in seen[1:] or set(seen) == {200}:
                seen.append((await subject.post("/api/show", {"model": subject.name("torn")})).status_code)
                await anyio.sleep(0.01)

    assert (500 if layout == "manifests" else 404) in seen


async def test_recent_versions_keep_manifests_as_links_to_blobs_that_win_over_the_old_ones(
    subject: Subject, server: OllamaServer
) -> None:
    await server.quirks(layout="manifests-v2")
    await subject.client.create(model=subject.name("linked"), from_=subject.base, system="You are Bob.")
    link = manifest_file(server, "linked", "manifests-v2")
    manifest_file(server, "linked").write_bytes(manifest_file(server, "base").read_bytes())

    assert link.is_symlink()
    assert link.resolve().parent == server.models / "blobs"
    assert (await subject.post("/api/show", {"model": subject.name("linked")})).json()["system"] == "You are Bob."
    assert await subject.delete(subject.name("linked")) == 200
    assert not link.is_symlink()


async def test_a_start_removes_blobs_that_no_manifest_needs(
    subject: Subject, server: OllamaServer, tmp_path: Path
) -> None:
    file = tmp_path / "unused"
    file.write_bytes(b"nobody needs this")
    unused = server.models / "blobs" / (await subject.upload(file)).replace(":", "-")
    said = await subject.said(subject.base)

    await server.restart()

    assert not unused.exists()
    assert await subject.said(subject.base) == said


async def test_nothing_is_removed_while_some_manifest_is_broken(
    subject: Subject, server: OllamaServer, tmp_path: Path
) -> None:
    file = tmp_path / "unused"
    file.write_bytes(b"nobody needs this either")
    unused = server.models / "blobs" / (await subject.upload(file)).replace(":", "-")
    broken = manifest_file(server, "broken")
    broken.write_text('{"schemaVersion": 2, "lay')

    await server.restart()

    assert unused.exists()
    answer = await subject.post("/api/show", {"model": subject.name("broken")})
    assert (answer.status_code, answer.json()) == (500, {"error": "unexpected end of JSON input"})
    broken.unlink()


async def test_a_full_queue_is_503(subject: Subject, server: OllamaServer) -> None:
    await server.quirks(busy=True)

    answer = await subject.post("/api/chat", {"model": subject.base, "messages": QUESTION})

    assert answer.status_code == 503
    assert answer.json()["error"].startswith("server busy, please try again.")


async def test_a_runner_that_was_killed_is_replaced(subject: Subject, server: OllamaServer) -> None:
    before = await subject.said(subject.base)
    assert server.process is not None
    runner = psutil.Process(server.process.pid).children()[0]
    asked = {"model": subject.base, "messages": QUESTION, "stream": False}

    runner.kill()
    with anyio.fail_after(30):
        while (await subject.post("/api/chat", asked)).status_code != 200:  # noqa: ASYNC110 - its end is not announced
            await anyio.sleep(0.01)

    assert await subject.said(subject.base) == before


@pytest.mark.parametrize("orphans", [False, True])
async def test_a_killed_server_takes_its_runners_with_it_unless_it_is_to_be_like_ollama(
    tmp_path: Path, *, orphans: bool
) -> None:
    async with ollama_server(tmp_path, Quirks(orphans=orphans)) as server:
        async with connected(server.url, PREFIX) as subject:
            digest = await subject.upload(TINY_CHAT)
            await subject.client.create(model=subject.base, files={TINY_CHAT.name: digest})
            await subject.said(subject.base)
        assert server.process is not None
        runner = psutil.Process(server.process.pid).children()[0]

        await server.kill()

        if orphans:
            assert runner.status() != psutil.STATUS_ZOMBIE
            runner.kill()
        gone, _ = psutil.wait_procs([runner], timeout=10)
        assert gone


async def test_the_program_on_the_path_serves_lists_and_tells_its_version(tmp_path: Path) -> None:
    program = Path(__file__).resolve().parents[2] / "fakes/ollama/bin/ollama"
    async with ollama_server(tmp_path, Quirks(version="0.36.0")) as server:
        env = {**os.environ, **server.env, "STANDIN_PYTHON": sys.executable}
        with anyio.fail_after(60):
            version = await anyio.run_process([str(program), "--version"], env=env)
            models = await anyio.run_process([str(program), "list"], env=env)

    assert version.stdout == b"ollama version is 0.36.0\n"
    assert models.stdout.startswith(b"NAME")
