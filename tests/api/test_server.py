import signal
import socket
import subprocess
import sys
from pathlib import Path

import anyio
import httpx
import pytest

from supervisor.api.app import create_app
from supervisor.api.server import bound, serve
from supervisor.engines.engine import Served
from supervisor.errors import MachineError
from supervisor.journal.journal import open_journal
from tests.api.stage import ADAPTER, CHAT, HELLO, client_of, context_for, over_http
from tests.fakes.backend import Wire, backend, chunk
from tests.fakes.engine import FakeEngine

pytestmark = pytest.mark.anyio


async def test_a_taken_port_is_named_with_its_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with (
            pytest.raises(MachineError, match=f"port {port} on 127.0.0.1 is taken.*CLAWLAMA_API_PORT"),
            bound("127.0.0.1", port),
        ):
            pass


async def test_an_address_that_is_not_ours_is_named() -> None:
    with pytest.raises(MachineError, match="cannot be used: "), bound("192.0.2.1", 0):
        pass


async def test_stopping_an_idle_server_frees_its_port_and_leaves_the_signals_alone(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    with anyio.fail_after(10):
        async with over_http(tmp_path) as stage:
            await stage.client.get("/healthz")
            during = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    assert during == before
    async with client_of(stage.url) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get("/healthz")


async def test_stopping_cuts_an_open_stream_and_keeps_what_was_said(tmp_path: Path) -> None:
    async def talk_on(wire: Wire) -> None:
        await wire.head()
        await wire.send(chunk({"content": "A long story"}))
        await wire.left()

    async with (
        backend(talk_on) as behind,
        context_for(tmp_path, FakeEngine(behind.url, Served("tiny-chat", ADAPTER, None))) as context,
    ):
        with anyio.fail_after(15):
            async with anyio.create_task_group() as tg:
                app = create_app(context)
                port = await tg.start(
                    lambda *, task_status: serve(app, host="127.0.0.1", port=0, task_status=task_status)
                )
                async with (
                    client_of(f"http://127.0.0.1:{port}") as client,
                    client.stream("POST", CHAT, json=HELLO | {"stream": True}) as reply,
                ):
                    assert b"story" in await anext(reply.aiter_bytes())
                    tg.cancel_scope.cancel()
        kept = await context.journal.completions(1)

    assert [(one.finish_reason, one.reply["content"]) for one in kept] == [("cancelled", "A long story")]


KILLED_SERVER = """
import sys
from pathlib import Path
import anyio
from supervisor.api.app import create_app
from supervisor.api.server import serve
from supervisor.engines.engine import Served
from tests.api.stage import ADAPTER, context_for
from tests.fakes.backend import backend, says, streams
from tests.fakes.engine import FakeEngine

async def main(folder):
    async with (
        backend(streams(says("Hi", " there"), 50)) as behind,
        context_for(folder, FakeEngine(behind.url, Served("tiny-chat", ADAPTER, None))) as context,
        anyio.create_task_group() as tg,
    ):
        app = create_app(context)
        port = await tg.start(lambda *, task_status: serve(app, host="127.0.0.1", port=0, task_status=task_status))
        print(port, flush=True)

anyio.run(main, Path(sys.argv[1]))
"""


async def test_what_clients_saw_to_its_end_survives_a_kill_of_the_server(tmp_path: Path) -> None:
    complete: list[str] = []

    async def ask_on(client: httpx.AsyncClient) -> None:
        while True:
            try:
                async with client.stream("POST", CHAT, json=HELLO | {"stream": True}) as reply:
                    text = "".join([piece async for piece in reply.aiter_text()])
                if text.endswith("data: [DONE]\n\n"):
                    complete.append(reply.headers["x-clawlama-completion"])
            except httpx.TransportError:
                return

    for round_number in range(3):
        server = subprocess.Popen(  # noqa: ASYNC220 - killed below, never waited for long
            [sys.executable, "-c", KILLED_SERVER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        with anyio.fail_after(60), server:
            assert server.stdout
            url = f"http://127.0.0.1:{server.stdout.readline().strip()}"
            async with client_of(url) as client, anyio.create_task_group() as tg:
                for _ in range(5):
                    tg.start_soon(ask_on, client)
                while len(complete) < 20 * (round_number + 1):  # noqa: ASYNC110
                    await anyio.sleep(0.01)
                server.kill()

    async with open_journal(f"sqlite:///{tmp_path}/journal.db") as journal:
        kept = {one.id for one in await journal.completions(10**6)}
    assert set(complete) <= kept


def test_pieces_of_a_stream_wait_for_no_acknowledgement() -> None:
    with bound("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()) as _client:
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
