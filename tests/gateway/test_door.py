"""The door with real sockets on both sides."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import anyio
import httpx
import pytest
from anyio.abc import SocketAttribute, SocketStream

from supervisor.errors import MachineError
from supervisor.gateway.door import keep_door
from supervisor.preflight import free_port

pytestmark = pytest.mark.anyio
BROWSER = {"Accept": "text/html,application/xhtml+xml;q=0.9"}


@asynccontextmanager
async def door(inner: int, moment: Callable[[], str] = lambda: "starting") -> AsyncIterator[int]:
    port = free_port()
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tg:
            await tg.start(partial(keep_door, "127.0.0.1", port, inner, moment))
            yield port
            tg.cancel_scope.cancel()


@asynccontextmanager
async def behind(serve: Callable[[SocketStream], Awaitable[None]]) -> AsyncIterator[int]:
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as tg:
        tg.start_soon(listener.serve, serve)
        yield listener.extra(SocketAttribute.local_port)
        tg.cancel_scope.cancel()


async def echo(stream: SocketStream) -> None:
    async with stream:
        async for data in stream:
            await stream.send(data)
        await stream.send(b" and goodbye")


async def read_all(stream: SocketStream) -> bytes:
    return b"".join([data async for data in stream])


async def test_bytes_pass_both_ways_and_an_end_leaves_the_other_direction_open() -> None:
    async with behind(echo) as inner, door(inner) as port, await anyio.connect_tcp("127.0.0.1", port) as client:
        await client.send(b"hello")
        assert await client.receive() == b"hello"
        await client.send_eof()
        assert await read_all(client) == b" and goodbye"


async def test_large_streams_arrive_whole() -> None:
    content = bytes(range(256)) * 40_000
    async with behind(echo) as inner, door(inner) as port, await anyio.connect_tcp("127.0.0.1", port) as client:
        received: list[bytes] = []

        async def read() -> None:
            received.append(await read_all(client))

        async with anyio.create_task_group() as tg:
            tg.start_soon(read)
            await client.send(content)
            await client.send_eof()

    assert received == [content + b" and goodbye"]


async def test_whoever_is_inside_sees_a_caller_from_this_machine() -> None:
    peers: list[str] = []

    async def note(stream: SocketStream) -> None:
        async with stream:
            peers.append(stream.extra(SocketAttribute.remote_address)[0])

    async with behind(note) as inner, door(inner) as port, await anyio.connect_tcp("127.0.0.1", port) as client:
        assert await read_all(client) == b""
    assert peers == ["127.0.0.1"]


@pytest.mark.parametrize("who_leaves", ["the caller", "the one inside"])
async def test_when_one_side_breaks_off_the_other_learns_of_it(who_leaves: str) -> None:
    met, over = anyio.Event(), anyio.Event()

    async def serve(stream: SocketStream) -> None:
        async with stream:
            met.set()
            if who_leaves == "the caller":
                assert await read_all(stream) == b""
                over.set()

    async with behind(serve) as inner, door(inner) as port:
        client = await anyio.connect_tcp("127.0.0.1", port)
        await met.wait()
        if who_leaves == "the caller":
            await client.aclose()
            await over.wait()
        else:
            assert await read_all(client) == b""
            await client.aclose()


async def test_a_browser_that_is_early_reads_how_far_the_start_is() -> None:
    async with door(free_port(), lambda: "pulling qwen3:8b 43 %, 12 MB/s") as port, httpx.AsyncClient() as client:
        page = await client.get(f"http://127.0.0.1:{port}/", headers=BROWSER)

    assert page.status_code == 503
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "pulling qwen3:8b 43 %, 12 MB/s" in page.text
    assert 'style="width: 43%"' in page.text
    assert 'http-equiv="refresh"' in page.text


async def test_what_a_page_says_cannot_become_markup() -> None:
    async with door(free_port(), lambda: "degraded: <script>") as port, httpx.AsyncClient() as client:
        page = await client.get(f"http://127.0.0.1:{port}/", headers=BROWSER)

    assert "<script>" not in page.text
    assert "&lt;script&gt;" in page.text


async def test_a_program_that_is_early_reads_the_same_as_json() -> None:
    async with door(free_port(), lambda: "warming") as port, httpx.AsyncClient() as client:
        reply = await client.post(f"http://127.0.0.1:{port}/v1/chat/completions", content=b"{}")

    assert (reply.status_code, reply.headers["retry-after"]) == (503, "2")
    assert json.loads(reply.text)["error"]["message"] == "the assistant is not up yet: warming"


async def test_a_taken_port_is_named_with_the_setting_that_changes_it() -> None:
    async with behind(echo) as taken:
        with pytest.raises(MachineError, match=f"port {taken} .*taken.*CLAWLAMA_OPENCLAW_PORT"):
            await keep_door("127.0.0.1", taken, free_port(), lambda: "")
