"""Pulls that go well, break off, crawl, or cannot go well."""

import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import ollama
import pytest

from supervisor.engines.ollama.pull import Puller, PullProgress
from supervisor.errors import PullFailed
from tests.engines.ollama.world import BASE, World, until, world
from tests.fakes.backend import Wire, backend
from tests.fakes.ollama.server import ROOT, TINY_CHAT

pytestmark = pytest.mark.anyio
SLOW = 1_500_000  # bytes a second; the model has 3.8 MB


class Shop:
    """A world, a puller, and what it reported."""

    def __init__(self, around: World, free: int | None, known: tuple[str, ...], pause: float) -> None:
        self.world = around
        self.seen: list[PullProgress] = []
        self.client = around.client
        self.puller = Puller(self.client, lambda: free, known, first_pause=pause)

    async def pull(self, model: str = BASE) -> None:
        await self.puller.pull(model, self.seen.append)

    async def models(self) -> list[str]:
        return [str(one.model) for one in (await self.client.list()).models]

    @property
    def far(self) -> bool:
        """Some megabytes have come."""
        return bool(self.seen) and self.seen[-1].done > 1_000_000


@asynccontextmanager
async def shop(
    folder: Path, free: int | None = None, known: tuple[str, ...] = (), pause: float = 0.01, **quirks: Any
) -> AsyncIterator[Shop]:
    """``pause``: seconds between the first two tries."""
    with anyio.fail_after(90):
        async with world(folder, quirks, OLLAMA_NOPRUNE="1") as around:
            made = Shop(around, free, known, pause)
            async with made.client:
                yield made


async def test_a_pull_tells_how_far_it_is_and_ends_with_the_model(tmp_path: Path) -> None:
    async with shop(tmp_path, pull_bytes_per_second=SLOW) as one:
        await one.pull()

        done = [progress.done for progress in one.seen]
        assert done == sorted(done)
        assert one.seen[-1].done == one.seen[-1].total >= TINY_CHAT.stat().st_size
        assert any(progress.bytes_per_s and progress.eta_s for progress in one.seen)
        assert await one.models() == [f"{BASE}:latest"]


async def test_a_download_that_keeps_breaking_but_brings_bytes_is_never_given_up(tmp_path: Path) -> None:
    quirks = {"cut_after_bytes": 70_000, "cut_times": -1, "retry_seconds": 0.0}

    async with shop(tmp_path, **quirks) as one:  # type: ignore[arg-type]
        await one.pull()
        breaks = {progress.status for progress in one.seen if "waiting" in progress.status}

        assert await one.models() == [f"{BASE}:latest"]
    assert breaks


async def test_a_server_killed_in_the_middle_goes_on_where_it_was(tmp_path: Path) -> None:
    # The tries must outlast the server's start, which on a busy machine takes seconds.
    async with (
        shop(tmp_path, pause=0.3, pull_bytes_per_second=SLOW, part_bytes=300_000) as one,
        anyio.create_task_group() as tg,
    ):
        tg.start_soon(one.pull)
        await until(lambda: one.far)
        await one.world.server.kill()
        await one.world.server.start()
        await until(lambda: one.seen[-1].status == "success")
        models = await one.models()

    assert models == [f"{BASE}:latest"]
    assert one.seen[-1].done == one.seen[-1].total


async def test_our_own_death_loses_nothing_that_has_come(tmp_path: Path) -> None:
    script = (
        "import sys, anyio, ollama\n"
        "from supervisor.engines.ollama.pull import Puller\n"
        "pull = Puller(ollama.AsyncClient(sys.argv[1], trust_env=False), lambda: None).pull\n"
        f"anyio.run(pull, {BASE!r}, lambda one: print(one.done, flush=True))\n"
    )

    async with shop(tmp_path, pull_bytes_per_second=SLOW) as one:
        argv = [sys.executable, "-c", script, one.world.server.url]
        us = await anyio.open_process(argv, stdout=subprocess.PIPE, stderr=None, cwd=ROOT)
        assert us.stdout is not None
        came = ""
        while not any(int(line) > 1_000_000 for line in came.split("\n")[:-1] if line):
            came += (await us.stdout.receive()).decode()
        us.send_signal(signal.SIGKILL)
        await us.wait()
        await us.stdout.aclose()
        await one.pull()
        first = next(progress for progress in one.seen if progress.done)

    assert first.done > 500_000


async def test_cancelling_stops_the_download_and_the_next_pull_goes_on(tmp_path: Path) -> None:
    async with shop(tmp_path, pull_bytes_per_second=SLOW) as one:
        async with anyio.create_task_group() as tg:
            tg.start_soon(one.pull)
            await until(lambda: one.far)
            tg.cancel_scope.cancel()
        one.seen.clear()
        await one.pull()
        first = next(progress for progress in one.seen if progress.done)

    assert first.done > 500_000


async def test_two_pulls_go_one_after_the_other(tmp_path: Path) -> None:
    async with shop(tmp_path, pull_bytes_per_second=4 * SLOW) as one, anyio.create_task_group() as tg:
        tg.start_soon(one.pull, BASE)
        tg.start_soon(one.pull, "second:7m")
        await until(lambda: {progress.model for progress in one.seen if progress.status == "success"} >= {"second:7m"})

    names = [progress.model for progress in one.seen]
    assert names == sorted(names, key=[BASE, "second:7m"].index)


async def test_an_unknown_model_is_told_with_names_that_are_near(tmp_path: Path) -> None:
    async with shop(tmp_path, known=("qwen3:8b", "gemma3:4b")) as one:
        with pytest.raises(PullFailed, match=r"no model has this name.*Did you mean qwen3:8b\?"):
            await one.pull("qwen3:8")


async def test_without_a_network_it_says_so_after_some_patience(tmp_path: Path) -> None:
    async with shop(tmp_path, registry=None) as one:
        with pytest.raises(PullFailed, match=r"no such host; .*Check the network"):
            await one.pull()

    assert len([progress for progress in one.seen if "waiting" in progress.status]) > 3


async def test_a_registry_in_trouble_is_asked_again(tmp_path: Path) -> None:
    async with shop(tmp_path, registry_failures=3) as one:
        await one.pull()

        assert await one.models() == [f"{BASE}:latest"]


async def test_a_registry_that_stays_in_trouble_is_given_up(tmp_path: Path) -> None:
    async with shop(tmp_path, registry_failures=10_000) as one:
        with pytest.raises(PullFailed, match="tried 8 times"):
            await one.pull()


async def test_wrong_bytes_are_given_up_although_they_keep_coming(tmp_path: Path) -> None:
    async with shop(tmp_path, corrupt=True) as one:
        with pytest.raises(PullFailed, match="digest mismatch"):
            await one.pull()


async def test_a_disk_that_is_too_small_is_told_before_it_is_full(tmp_path: Path) -> None:
    async with shop(tmp_path, free=512 * 2**20 + 1000, pull_bytes_per_second=SLOW) as one:
        with pytest.raises(PullFailed, match=r"3\.8 MB are to come and 537 MB are free; make room"):
            await one.pull()
        blobs = one.world.server.models / "blobs"
        came = sum(path.stat().st_blocks * 512 for path in blobs.iterdir())

    assert came < 1_000_000


async def test_a_disk_that_is_large_enough_is_no_obstacle(tmp_path: Path) -> None:
    async with shop(tmp_path, free=600_000_000) as one:
        await one.pull()

        assert await one.models() == [f"{BASE}:latest"]


async def test_a_disk_that_fills_all_the_same_is_no_reason_to_try_again(tmp_path: Path) -> None:
    async with shop(tmp_path, disk_bytes=1_000_000) as one:
        with pytest.raises(PullFailed, match=r"no space left on device; make room"):
            await one.pull()

    assert not [progress for progress in one.seen if "waiting" in progress.status]


@pytest.mark.parametrize(
    ("problem", "told"),
    [
        ("pull model manifest: 412: this model requires a newer version of Ollama", "update Ollama"),
        ("pull model manifest: 401: Invalid username or password.", "this model is private"),
        ("open /x/blobs/sha256-1-partial: permission denied", "must be able to write"),
        ("invalid model name", "correct CLAWLAMA_MODEL"),
    ],
)
async def test_what_only_a_person_can_mend_is_told_at_once(problem: str, told: str) -> None:
    async def refuse(wire: Wire) -> None:
        await wire.head("application/x-ndjson")
        await wire.send(json.dumps({"error": problem}).encode() + b"\n")
        await wire.end()

    with anyio.fail_after(20):
        async with backend(refuse) as behind, ollama.AsyncClient(behind.url, trust_env=False) as client:
            with pytest.raises(PullFailed, match=told):
                await Puller(client, lambda: None).pull("x", lambda _: None)

    assert len(behind.asked) == 1


@pytest.mark.parametrize("ending", [b"", b'{"status": "pul', b'{"status": 5}\n', b"\xff\n"])
async def test_an_answer_that_ends_badly_is_asked_for_again(ending: bytes) -> None:
    answers = iter([ending, b'{"status": "success"}\n'])

    async def answer(wire: Wire) -> None:
        await wire.head("application/x-ndjson")
        await wire.send(b'{"status": "pulling manifest"}\n' + next(answers))
        await wire.end()

    with anyio.fail_after(20):
        async with backend(answer) as behind, ollama.AsyncClient(behind.url, trust_env=False) as client:
            await Puller(client, lambda: None, first_pause=0.01).pull("x", lambda _: None)

    assert len(behind.asked) == 2


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        (PullProgress("m", "pulling manifest"), "pulling m: pulling manifest"),
        (PullProgress("m", "x", 430, 1000), "pulling m 43 %"),
        (PullProgress("m", "x", 430, 1000, 12.4e6, 170.0), "pulling m 43 %, 12 MB/s, 3 min left"),
        (PullProgress("m", "x", 430, 1000, 1.24e6, 9000.0), "pulling m 43 %, 1.2 MB/s, 2.5 h left"),
        (PullProgress("m", "x", 999, 1000, 900.0, 0.1), "pulling m 99 %, 900 B/s, 1 s left"),
        (PullProgress("m", "verifying sha256 digest", 1000, 1000), "pulling m 100 %: verifying sha256 digest"),
    ],
)
def test_progress_reads_like_a_sentence(progress: PullProgress, text: str) -> None:
    assert str(progress) == text
