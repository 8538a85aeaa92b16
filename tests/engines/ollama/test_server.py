"""A server of our own: started where none answers, with the plan's environment, gone when we are."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from supervisor.engines.ollama.engine import OllamaEngine
from supervisor.engines.ollama.server import find_ollama, serve_command
from supervisor.engines.ollama.setup import OllamaSetup, Tuning, address
from supervisor.errors import EngineError, SettingsError
from supervisor.services.output import Output
from supervisor.services.reaper import sweep
from supervisor.services.tree import supervised
from tests.engines.ollama.world import ADAPTER, BASE, TUNING, prepare, say, shelves, until
from tests.fakes.backend import answers, backend
from tests.fakes.ollama.quirks import Quirks
from tests.fakes.ollama.server import ROOT, registry_server
from tests.fakes.ports import free_port

BIN = ROOT / "tests" / "fakes" / "ollama" / "bin"


def own(folder: Path, quirks: Quirks | None = None, **other: Any) -> OllamaSetup:
    """A server to be started by us; ``folder`` becomes the data folder."""
    environment = {**os.environ, "STANDIN_QUIRKS": (quirks or Quirks()).model_dump_json()}
    values: dict[str, Any] = {
        "at": address(f"127.0.0.1:{free_port()}"),
        "base": BASE,
        "adapter": ADAPTER,
        "data": folder,
        "executable": BIN / "ollama",
        "environment": environment,
        "owner": str(folder),
    }
    return OllamaSetup(**values | other)


@asynccontextmanager
async def kept_up(setup: OllamaSetup) -> AsyncIterator[OllamaEngine]:
    """An engine whose server is in a service tree."""
    with anyio.fail_after(90):
        async with OllamaEngine(setup, Output) as engine, supervised() as tree:
            assert engine.service is not None
            await tree.start(engine.service)
            yield engine


@pytest.mark.anyio
async def test_a_server_of_our_own_pulls_serves_and_comes_back_after_a_kill(tmp_path: Path) -> None:
    async with registry_server(shelves(tmp_path / "registry")) as shop:
        setup = own(tmp_path / "data", Quirks(registry=shop.url))
        async with kept_up(setup) as engine:
            await prepare(engine)
            facts = await engine.model_facts()
            assert (await say(engine))["done"]
            assert engine.service is not None
            pid = engine.service.status().pid
            assert pid is not None
            os.kill(pid, 9)
            while engine.service.status().pid in (pid, None):  # noqa: ASYNC110
                await anyio.sleep(0.01)
            await engine.service.wait_ready()
            again = await say(engine)

        assert again["done"]
        assert facts.lessons is None
        assert facts.gguf.is_relative_to(setup.data / "ollama")
        with pytest.raises(EngineError, match="no Ollama answers"):
            async with OllamaEngine(replace(setup, executable=None), Output) as after:
                await after.reach(0.1)


@pytest.mark.anyio
async def test_a_pull_goes_on_when_our_server_is_killed_in_the_middle(tmp_path: Path) -> None:
    async with registry_server(shelves(tmp_path / "registry")) as shop:
        quirks = Quirks(registry=shop.url, pull_bytes_per_second=2_000_000, part_bytes=300_000)
        async with kept_up(own(tmp_path / "data", quirks)) as engine, anyio.create_task_group() as tg:
            await engine.reach()
            tg.start_soon(engine.ensure_model)
            while " 4" not in engine.doing:  # noqa: ASYNC110 - 4x %
                await anyio.sleep(0.01)
            assert engine.service is not None
            os.kill(engine.service.status().pid or 0, 9)
            while "looking at" not in engine.doing:  # noqa: ASYNC110
                await anyio.sleep(0.01)
            await prepare(engine)
            assert engine.service.status().restarts == 1


@pytest.mark.anyio
async def test_a_pull_goes_on_after_our_own_death_which_leaves_no_server_behind(tmp_path: Path) -> None:
    async with registry_server(shelves(tmp_path / "registry")) as shop:
        quirks = Quirks(registry=shop.url, pull_bytes_per_second=2_000_000, part_bytes=300_000)
        first = await killed_while_pulling(tmp_path / "data", quirks)
        with anyio.fail_after(20):
            await until(lambda: kept(tmp_path / "data") > 1_000_000)  # the server has noticed
        sweep(str(tmp_path / "data"))
        setup = own(tmp_path / "data", quirks)
        async with kept_up(setup) as engine:
            seen: list[str] = []
            async with anyio.create_task_group() as tg:
                tg.start_soon(note, engine, seen)
                await prepare(engine)
                tg.cancel_scope.cancel()

    assert first > 40
    assert next(int(percent) for percent in map(percent_of, seen) if percent not in (None, "0")) > 20


async def killed_while_pulling(folder: Path, quirks: Quirks) -> int:
    """Another one of us on this data folder, killed in the middle of a pull; per cent it had then."""
    script = (
        "import sys, anyio\n"
        "from pathlib import Path\n"
        "from supervisor.log import set_up_logging\n"
        "from tests.engines.ollama.test_server import *\n"
        "async def main():\n"
        "    set_up_logging()\n"
        "    quirks = Quirks.model_validate_json(sys.argv[2])\n"
        "    async with kept_up(own(Path(sys.argv[1]), quirks)) as engine, anyio.create_task_group() as tg:\n"
        "        await engine.reach()\n"
        "        tg.start_soon(engine.ensure_model)\n"
        "        while True:\n"
        "            print(percent_of(engine.doing) or 0, flush=True)\n"
        "            await anyio.sleep(0.02)\n"
        "anyio.run(main)\n"
    )
    argv = [sys.executable, "-c", script, str(folder), quirks.model_dump_json()]
    us = await anyio.open_process(argv, stdout=subprocess.PIPE, stderr=None, cwd=ROOT)
    assert us.stdout is not None
    told = ""
    with anyio.fail_after(60):
        while max(map(int, told.split("\n")[:-1]), default=0) <= 40:
            told += (await us.stdout.receive()).decode()
    us.send_signal(signal.SIGKILL)
    await us.wait()
    await us.stdout.aclose()
    return max(map(int, told.split("\n")[:-1]))


async def note(engine: OllamaEngine, seen: list[str]) -> None:
    while True:
        seen.append(engine.doing)
        await anyio.sleep(0.01)


def kept(folder: Path) -> int:
    """Bytes of unfinished downloads that the next server will find."""
    parts = (folder / "ollama" / "blobs").glob("*-partial-*")
    return sum(int(json.loads(path.read_text() or '{"Completed": 0}')["Completed"]) for path in parts)


def percent_of(doing: str) -> str | None:
    found = re.search(r" (\d+) %", doing)
    return found and found[1]


@pytest.mark.anyio
async def test_a_server_that_answers_is_used_and_none_is_started(tmp_path: Path) -> None:
    async with backend(answers({"version": "0.40.1"})) as behind:
        setup = own(tmp_path, at=address(behind.url))
        async with OllamaEngine(setup, Output) as engine:
            assert engine.service is None


@pytest.mark.anyio
async def test_no_server_is_started_for_an_address_elsewhere(tmp_path: Path) -> None:
    async with OllamaEngine(own(tmp_path, at=address("http://127.0.0.1:1/behind/a/proxy")), Output) as engine:
        assert engine.service is None


@pytest.mark.anyio
@pytest.mark.parametrize("status", [200, 404])
async def test_something_else_at_the_address_is_told(tmp_path: Path, status: int) -> None:
    async with (
        backend(answers({"name": "something else"}, status=status)) as behind,
        OllamaEngine(own(tmp_path, at=address(behind.url), executable=None), Output) as engine,
    ):
        with pytest.raises(EngineError, match="is not Ollama"):
            await engine.reach(0.1)


def test_our_server_gets_what_the_plan_wants_and_keeps_partial_pulls(tmp_path: Path) -> None:
    setup = own(tmp_path, keep_alive="-1", max_loaded=2)
    before = serve_command(setup, None).env
    after = serve_command(setup, replace(TUNING, flash_attention=True, kv_type="q8_0", parallel=3)).env

    assert before is not None
    assert after is not None
    assert "OLLAMA_CONTEXT_LENGTH" not in before
    assert {name: after[name] for name in after if name.startswith("OLLAMA_")} == {
        "OLLAMA_HOST": setup.at.netloc,
        "OLLAMA_MODELS": str(tmp_path / "ollama"),
        "OLLAMA_KEEP_ALIVE": "-1",
        "OLLAMA_NUM_PARALLEL": "3",
        "OLLAMA_MAX_LOADED_MODELS": "2",
        "OLLAMA_NOPRUNE": "1",
        "OLLAMA_NO_CLOUD": "1",
        "OLLAMA_CONTEXT_LENGTH": "512",
        "OLLAMA_FLASH_ATTENTION": "1",
        "OLLAMA_KV_CACHE_TYPE": "q8_0",
    }
    assert "OLLAMA_FLASH_ATTENTION" not in (serve_command(setup, Tuning(512)).env or {})


def test_the_executable_is_found_on_the_search_path(tmp_path: Path) -> None:
    assert find_ollama(str(BIN)) == BIN / "ollama"
    assert find_ollama(str(tmp_path)) is None


@pytest.mark.parametrize(
    ("text", "url", "local"),
    [
        ("", "http://127.0.0.1:11434", True),
        ("127.0.0.1", "http://127.0.0.1:11434", True),
        (":4000", "http://127.0.0.1:4000", True),
        ("0.0.0.0:4000", "http://127.0.0.1:4000", True),
        ("localhost", "http://localhost:11434", True),
        ("[::1]:5000", "http://[::1]:5000", True),
        ("http://box", "http://box:80", False),
        ("https://box/ollama/", "https://box:443/ollama", False),
        ("box:11434", "http://box:11434", False),
    ],
)
def test_an_address_means_what_it_means_to_ollama(text: str, url: str, local: bool) -> None:
    found = address(text)

    assert (found.url, found.local) == (url, local)


@pytest.mark.parametrize("text", ["ftp://box", "box:port", "box:99999", "[::1"])
def test_an_address_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="OLLAMA_HOST="):
        address(text)


def test_an_ollama_with_libraries_for_the_gpu_is_taken_at_the_next_start(tmp_path: Path) -> None:
    came: list[Path] = []
    setup = own(tmp_path, executable=Path("/usr/bin/ollama"), better=lambda: came[-1] if came else None)

    assert serve_command(setup, None).argv == ("/usr/bin/ollama", "serve")
    came.append(tmp_path / "packs" / "bin" / "ollama")
    assert serve_command(setup, None).argv == (str(came[0]), "serve")
