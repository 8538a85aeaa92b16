"""A base model is fetched by its name, from something that speaks the hub's protocol."""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from supervisor.distill.base import load_base
from supervisor.distill.hub import fetched
from supervisor.distill.worker import at_hand
from supervisor.errors import DistillError
from tests.distill.lessons import chat_model, job

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "owner/tiny"


class Shelf(BaseHTTPRequestHandler):
    """Serves the files of ``folder`` as the hub does; ``asked`` are their names."""

    folder: Path
    asked: list[str]

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        names = sorted(path.name for path in self.folder.iterdir() if path.is_file())
        name = self.path.rpartition("/")[2]
        if self.path.startswith(f"/api/models/{NAME}"):
            sizes = {name: (self.folder / name).stat().st_size for name in names}
            tree = [{"type": "file", "path": name, "oid": COMMIT, "size": size} for name, size in sizes.items()]
            whole = {"id": NAME, "sha": COMMIT, "siblings": [{"rfilename": name} for name in names]}
            told = tree if "/tree/" in self.path else whole
            self.reply(json.dumps(told).encode(), {"Content-Type": "application/json"})
        elif self.path.startswith(f"/{NAME}/resolve/") and name in names:
            self.asked.append(name)
            body = (self.folder / name).read_bytes()
            self.reply(body, {"ETag": f'"{hashlib.sha256(body).hexdigest()}"', "X-Repo-Commit": COMMIT})
        else:
            self.send_error(404)

    def reply(self, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(200)
        for key, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "model"
    folder.mkdir()
    Shelf.folder, Shelf.asked = chat_model(folder), []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Shelf)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_model_is_fetched_by_its_name_and_can_be_loaded(hub: str, tmp_path: Path) -> None:
    folder = fetched(Path(f"hf:{NAME}"), endpoint=hub, cache=tmp_path / "cache")

    model, tokenizer = load_base(folder)

    assert model.config.model_type == "qwen3"
    assert tokenizer.chat_template
    assert "model.safetensors" in Shelf.asked
    assert "model.gguf" not in Shelf.asked


def test_what_was_fetched_is_used_when_the_hub_is_gone(hub: str, tmp_path: Path) -> None:
    folder = fetched(Path(f"hf:{NAME}"), endpoint=hub, cache=tmp_path / "cache")

    again = fetched(Path(f"hf:{NAME}"), endpoint="http://127.0.0.1:9", cache=tmp_path / "cache")

    assert again == folder


def test_a_name_that_the_hub_does_not_know_is_refused(hub: str, tmp_path: Path) -> None:
    with pytest.raises(DistillError, match="owner/other cannot be had from the Hugging Face hub"):
        fetched(Path("hf:owner/other"), endpoint=hub, cache=tmp_path / "cache")


def test_only_a_name_that_says_so_is_looked_for_on_the_hub(tmp_path: Path) -> None:
    here = job(chat_model(tmp_path / "base"), tmp_path / "out")

    assert at_hand(here, lambda *_: None) is here
