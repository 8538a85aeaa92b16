"""The client against a real HTTP server that answers as it is told."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from supervisor.cli.client import Client, Refused, connected
from supervisor.cli.show import follow_lesson
from supervisor.cli.status import duration
from supervisor.errors import NotRunning
from supervisor.running import Running, write_running
from supervisor.settings.datadir import DataDir
from supervisor.settings.settings import Settings
from tests.fakes.ports import free_port

TOKEN = "token-of-the-running-one"


class Server(ThreadingHTTPServer):
    """Answers everything with one status and body, and keeps what it was asked."""

    status: int
    body: bytes
    asked: list[dict[str, Any]]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append(
            {"path": self.path, "token": self.headers["Authorization"], "body": json.loads(body or "null")}
        )
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def serving(status: int, body: str) -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        server.status, server.body, server.asked = status, body.encode(), []
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def client(data: Path, url: str) -> Iterator[Client]:
    """A client of a supervisor that holds this data folder and says to be at ``url``."""
    folder = DataDir(data)
    folder.prepare()
    running = Running(
        pid=1,
        version="0",
        model="tiny-chat",
        adapter="a",
        api_url=url,
        api_token=TOKEN,
        openclaw_url=url,
        openclaw_token="",
    )
    with ExitStack() as stack:
        stack.enter_context(folder.locked())
        write_running(folder, running)
        yield stack.enter_context(connected(Settings.model_validate({"data": data})))


def test_calls_carry_the_token_and_bring_the_answer(tmp_path: Path) -> None:
    with serving(200, '{"yes": 1}') as server, client(tmp_path, server.url) as one:
        assert one.get("/v1/lessons", limit=3) == {"yes": 1}
        assert one.post("/v1/feedback", {"feedback": "brief"}, wait="false") == {"yes": 1}

        assert [asked["path"] for asked in server.asked] == ["/v1/lessons?limit=3", "/v1/feedback?wait=false"]
        assert {asked["token"] for asked in server.asked} == {f"Bearer {TOKEN}"}
        assert server.asked[1]["body"] == {"feedback": "brief"}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('{"error": {"message": "no such lesson", "type": "x"}}', "no such lesson"),
        ('{"error": "no such lesson"}', "no such lesson"),
        ('{"detail": "no such lesson"}', "no such lesson"),
        ('{"detail": [{"msg": "Field required"}]}', "[{'msg': 'Field required'}]"),
        ('["odd"]', "['odd']"),
        ("<html>Bad gateway</html>", "HTTP 502: <html>Bad gateway</html>"),
    ],
)
def test_a_refusal_says_what_the_server_said(tmp_path: Path, body: str, said: str) -> None:
    with serving(502, body) as server, client(tmp_path, server.url) as one:
        with pytest.raises(Refused) as error:
            one.get("/v1/lessons/x")
        assert str(error.value) == said

        with pytest.raises(Refused):
            list(one.events("/v1/lessons/x/events"))


def test_a_supervisor_that_is_gone_is_said_to_be(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with client(tmp_path, url) as one:
        for call in (lambda: one.get("/"), lambda: list(one.events("/"))):
            with pytest.raises(NotRunning, match=rf"{url} does not answer \(.*\); see: clawlama logs clawlama"):
                call()


def test_a_data_folder_that_nobody_holds_has_nobody_to_talk_to(tmp_path: Path) -> None:
    settings = Settings.model_validate({"data": tmp_path})

    with pytest.raises(NotRunning, match="start one with: clawlama up"), connected(settings):
        pass


def test_one_that_is_about_to_start_is_not_taken_for_none(tmp_path: Path) -> None:
    folder = DataDir(tmp_path)
    folder.prepare()

    with (
        folder.locked(),
        pytest.raises(NotRunning, match="about to start or to stop"),
        connected(Settings.model_validate({"data": tmp_path})),
    ):
        pass


def lesson(state: str, progress: float, **other: Any) -> dict[str, Any]:
    return {"id": "les-1", "state": state, "progress": progress, "step": "", "error": None} | other


def stream(*events: dict[str, Any]) -> str:
    frames = [f"event: lesson\ndata: {json.dumps(event)}\n\n" for event in events]
    return "".join(frames) + "event: end\ndata: {}\n\n"


def test_a_lesson_is_followed_to_its_end(tmp_path: Path) -> None:
    body = stream(lesson("running", 0.5, step="training"), lesson("done", 1.0, version="v0001"))
    with serving(200, body) as server, client(tmp_path, server.url) as one:
        last = follow_lesson(one.events("/v1/lessons/les-1/events"), quiet=True)

    assert last["version"] == "v0001"


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([lesson("failed", 0.5, error="signal 9")], "lesson les-1 failed: signal 9"),
        ([lesson("rejected", 0.9, error="collapses")], "lesson les-1 rejected: collapses"),
        ([lesson("running", 0.5)], "lesson les-1 running: no reason given"),
        ([], "lesson ? ended early: no reason given"),
    ],
)
def test_a_lesson_that_did_not_end_well_is_an_error(events: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(Refused) as error:
        follow_lesson(events, quiet=True)

    assert str(error.value) == said


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.9, "59 s"), (61, "1 min 1 s"), (3600, "1 h 0 min"), (90061, "25 h 1 min")]
)
def test_a_duration_is_as_long_as_it_needs_to_be(seconds: float, text: str) -> None:
    assert duration(seconds) == text
