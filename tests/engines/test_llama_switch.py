"""New versions, rest, crashes: what happens to those who ask meanwhile."""

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import anyio
import pytest
from anyio.lowlevel import checkpoint

from supervisor.engines.engine import Version
from supervisor.engines.llama import LlamaEngine
from supervisor.errors import EngineError
from tests.engines.engines import CHAT, chat, engine, say
from tests.engines.models import Trained
from tests.services.children import alive, until

pytestmark = pytest.mark.anyio

ORPHAN = """
import sys, anyio
from functools import partial
from pathlib import Path
from supervisor.log import set_up_logging
from tests.engines.engines import engine

async def main():
    set_up_logging()
    async with engine(Path(sys.argv[1]), Path(sys.argv[2])) as one:
        print(one.service.status().pid, flush=True)
        await anyio.sleep_forever()

anyio.run(main)
"""


async def settle() -> None:
    """Let every task that can go on do so."""
    for _ in range(50):
        await checkpoint()


def longer_than(seen: list[str | None], count: int) -> bool:
    return len(seen) > count


def pid(one: LlamaEngine) -> int:
    found = one.service.status().pid
    assert found is not None
    return found


async def test_a_new_version_waits_for_running_replies_and_new_requests_wait_for_it(
    model: Trained, tmp_path: Path
) -> None:
    async with engine(model.base, tmp_path) as one, anyio.create_task_group() as tg:
        versions: list[str | None] = []

        async def ask() -> None:
            versions.append((await say(one))[0].version)

        async with one.forward(CHAT, chat(stream=True)) as reply:
            tg.start_soon(one.publish, model.version)
            await settle()
            tg.start_soon(ask)
            await settle()
            assert one.service.status().state == "ready"
            lines = [line async for line in reply.response.aiter_lines() if line]

        assert lines[-1] == "data: [DONE]"
        assert (reply.version, versions) == (None, [])
        await until(lambda: bool(versions))
        assert versions == ["v0001"]


async def test_going_back_to_the_bare_base_is_a_publication_too(model: Trained, tmp_path: Path) -> None:
    async with engine(model.base, tmp_path, model.version) as one:
        tuned, first = await say(one)
        await one.publish(None)
        bare, second = await say(one)

    assert (tuned.version, bare.version, one.served.version) == ("v0001", None, None)
    assert first != second


async def test_a_broken_version_is_refused_and_the_old_one_serves(model: Trained, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(model.version.gguf.read_bytes()[:1000])

    async with engine(model.base, tmp_path, model.version) as one:
        _, before = await say(one)
        with pytest.raises(EngineError, match=r"v0002 does not load \(see the engine's log\); v0001 serves again"):
            await one.publish(Version("v0002", broken))
        reply, after = await say(one)

    assert (reply.version, one.served.version) == ("v0001", "v0001")
    assert before == after


async def test_a_version_of_another_base_is_refused(model: Trained, tmp_path: Path) -> None:
    async with engine(model.base, tmp_path) as one:
        with pytest.raises(EngineError, match=r"v0009 does not load .*; the bare base serves again"):
            await one.publish(Version("v0009", model.base / "model.gguf"))
        await one.publish(model.version)

        assert (await say(one))[0].version == "v0001"


async def test_a_resting_engine_holds_no_memory_and_requests_wait_for_it(model: Trained, tmp_path: Path) -> None:
    async with engine(model.base, tmp_path) as one, anyio.create_task_group() as tg:
        texts: list[str] = []

        async def ask() -> None:
            texts.append((await say(one))[1])

        serving = pid(one)
        await one.rest()
        tg.start_soon(ask)
        await settle()
        assert not alive(serving)
        assert one.service.status().state == "paused"
        assert texts == []

        await one.wake()
        await until(lambda: bool(texts))


async def test_a_version_published_at_rest_serves_after_waking(model: Trained, tmp_path: Path) -> None:
    async with engine(model.base, tmp_path) as one:
        await one.rest()
        await one.publish(model.version)
        assert one.service.status().state == "paused"
        await one.wake()

        assert (await say(one))[0].version == "v0001"


async def test_the_next_request_after_a_crash_is_served(model: Trained, tmp_path: Path) -> None:
    async with engine(model.base, tmp_path, model.version) as one:
        _, before = await say(one)
        crashed = pid(one)

        os.kill(crashed, signal.SIGKILL)
        await until(lambda: one.service.status().pid != crashed)
        reply, after = await say(one)

    assert (reply.version, after) == ("v0001", before)


async def test_a_killed_supervisor_takes_the_engine_with_it(model: Trained, tmp_path: Path) -> None:
    argv = [sys.executable, "-c", ORPHAN, str(model.base), str(tmp_path)]
    with anyio.fail_after(60):
        async with await anyio.open_process(argv, cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL) as parent:
            assert parent.stdout is not None
            child = int(await parent.stdout.receive())
            assert alive(child)

            parent.kill()

            await until(lambda: not alive(child))


async def test_no_request_is_lost_over_many_versions(model: Trained, tmp_path: Path) -> None:
    async with engine(model.base, tmp_path) as one, anyio.create_task_group() as tg:
        seen: list[str | None] = []

        async def keep_asking() -> None:
            while True:
                seen.append((await say(one))[0].version)

        tg.start_soon(keep_asking)
        for version in (model.version, None, model.version):
            await one.publish(version)
            await until(partial(longer_than, seen, len(seen) + 1))
        tg.cancel_scope.cancel()

    changes = [now for was, now in zip([None, *seen], seen, strict=False) if was != now]
    assert changes == ["v0001", None, "v0001"]


async def test_what_is_loaded_anew_has_read_the_remembered_prompt(model: Trained, tmp_path: Path) -> None:
    async with engine(model.base, tmp_path) as one:
        one.remember(CHAT, chat(max_tokens=1))
        cached = []
        for version in (model.version, None):
            await one.publish(version)
            async with one.forward(CHAT, chat()) as reply:
                cached.append(json.loads(await reply.response.aread())["timings"]["cache_n"])
        await one.rest()
        await one.wake()
        async with one.forward(CHAT, chat()) as reply:
            cached.append(json.loads(await reply.response.aread())["timings"]["cache_n"])

    assert all(cached), cached
