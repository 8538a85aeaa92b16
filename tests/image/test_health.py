"""The health check as the container runs it: a bare interpreter, and one line for people."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import anyio
import pytest

from supervisor.api.status import StackStatus
from supervisor.running import Running
from supervisor.settings.secrets import write_private
from tests.api.stage import over_http
from tests.fakes.ports import free_port

pytestmark = pytest.mark.anyio

SCRIPT = Path(__file__).resolve().parents[2] / "image" / "rootfs" / "usr" / "local" / "bin" / "healthcheck"


async def check(data: Path, **environment: str) -> tuple[int, str]:
    """Exit code and output."""
    ran = await anyio.to_thread.run_sync(
        partial(
            subprocess.run,
            [sys.executable, "-I", "-S", str(SCRIPT)],
            env={"PATH": os.environ["PATH"], "CLAWLAMA_DATA": str(data), **environment},
            capture_output=True,
            text=True,
            timeout=30,
        )
    )
    assert not ran.stderr
    return ran.returncode, ran.stdout.removesuffix("\n")


def says_where(data: Path, url: str) -> None:
    home = Running(
        pid=1, version="1", model="m", adapter="a", api_url=url, api_token="t", openclaw_url="", openclaw_token=""
    )
    (data / "run").mkdir()
    write_private(data / "run" / "supervisor.json", home.model_dump_json())


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (StackStatus("ready"), (0, "ready")),
        (StackStatus("starting", "loading tiny-chat"), (0, "starting: loading tiny-chat")),
        (StackStatus("pulling", "pulling qwen3:8b 43 %, 12 MB/s"), (0, "pulling qwen3:8b 43 %, 12 MB/s")),
        (StackStatus("warming", "reading OpenClaw's prompt"), (0, "warming: reading OpenClaw's prompt")),
        (StackStatus("learning"), (0, "learning")),
        (StackStatus("degraded", "v2 cannot be served"), (0, "degraded: v2 cannot be served")),
        (StackStatus("degraded", "x", failing="engine is\nhanging"), (1, "degraded: engine is hanging")),
        (
            StackStatus("pulling", "pulling x 1 %", failing="pulling x 1 %: still"),
            (1, "degraded: pulling x 1 %: still"),
        ),
    ],
)
async def test_it_fails_when_turns_would_and_says_the_moment_in_one_line(
    tmp_path: Path, status: StackStatus, expected: tuple[int, str]
) -> None:
    async with over_http(tmp_path, status=lambda: status) as stage:
        says_where(tmp_path, stage.url)

        assert await check(tmp_path) == expected


async def test_before_the_supervisor_says_where_it_is_the_environment_does(tmp_path: Path) -> None:
    async with over_http(tmp_path) as stage:
        port = stage.url.rpartition(":")[2]

        assert await check(tmp_path, CLAWLAMA_API_PORT=port) == (0, "ready")
        assert await check(tmp_path, CLAAS_API_PORT=port) == (0, "ready")


async def test_an_api_that_is_gone_fails_it(tmp_path: Path) -> None:
    says_where(tmp_path, f"http://127.0.0.1:{free_port()}")

    code, line = await check(tmp_path)

    assert (code, line) == (1, "the API does not answer ([Errno 111] Connection refused); docker logs says why")


async def test_whatever_else_answers_there_is_not_health(tmp_path: Path) -> None:
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as tg:
        port = str(listener.extra(anyio.abc.SocketAttribute.local_port))
        answers = [
            b"",
            b"HTTP/1.1 404 Not Found\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\n\r\n<html>",
            b"HTTP/1.1 200 OK\r\n\r\n{}",
        ]

        async def answer(stream: anyio.abc.SocketStream) -> None:
            async with stream:
                await stream.receive()
                await stream.send(answers[0])

        tg.start_soon(listener.serve, answer)
        while answers:
            assert (await check(tmp_path, CLAWLAMA_API_PORT=port))[0] == 1
            del answers[0]
        tg.cancel_scope.cancel()


async def test_an_api_that_hangs_fails_it_before_docker_gives_up(tmp_path: Path) -> None:
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as tg:

        async def hang(stream: anyio.abc.SocketStream) -> None:
            async with stream:
                await anyio.sleep_forever()

        tg.start_soon(listener.serve, hang)
        port = str(listener.extra(anyio.abc.SocketAttribute.local_port))
        with anyio.fail_after(30):
            assert await check(tmp_path, CLAWLAMA_API_PORT=port) == (
                1,
                "the API does not answer (timed out); docker logs says why",
            )
        tg.cancel_scope.cancel()
