import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import anyio
import httpx
import pytest

from supervisor.services.probe import http_answers

pytestmark = pytest.mark.anyio


@contextmanager
def serving(answers: list[tuple[int, bytes]]) -> Iterator[str]:
    """A server that gives these answers in turn, and the last one for ever."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers.pop(0) if len(answers) > 1 else answers[0]
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


async def test_a_probe_is_patient_with_refusals() -> None:
    answers = [(503, b""), (500, b""), (200, b"")]

    with anyio.fail_after(20), serving(answers) as url:
        await http_answers(url, every=0.01)()

    assert answers == [(200, b"")]


async def test_a_page_where_json_was_expected_means_not_yet() -> None:
    answers = [(200, b"<html>"), (200, b'{"started": false}'), (200, b'{"started": true}')]

    with anyio.fail_after(20), serving(answers) as url:
        await http_answers(url, lambda response: response.json()["started"] is True, every=0.01)()

    assert answers == [(200, b'{"started": true}')]


async def test_a_probe_outlasts_a_closed_port() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        with anyio.move_on_after(0.2) as patience:
            await http_answers(f"http://127.0.0.1:{reserved.getsockname()[1]}/", every=0.01)()

    assert patience.cancelled_caught


async def test_a_wrong_address_is_an_error_at_once() -> None:
    with anyio.fail_after(20), pytest.raises(httpx.UnsupportedProtocol):
        await http_answers("127.0.0.1/health")()
