"""A server of files and package index, real HTTP, that can be told to behave badly; and packs made of small files."""

import hashlib
import io
import json
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import zstandard

from supervisor.packs.pack import Pack, PackFile
from supervisor.packs.packs import Packs, PackSetup


@dataclass
class Depot:
    """``files`` by name. ``cut``: answers that end after so many bytes, one each; ``status``: what it says instead."""

    files: dict[str, bytes] = field(default_factory=dict)
    url: str = ""
    cut: list[int] = field(default_factory=list)
    status: int | None = None
    ranges: bool = True
    json_index: bool = False
    pause: float = 0.0  # seconds between two pieces of 4 kB
    asked: list[tuple[str, str]] = field(default_factory=list)  # path and Range
    sent: int = 0  # bytes of files

    def of(self, name: str) -> list[str]:
        """The ranges that were asked for of one file."""
        return [wanted for path, wanted in self.asked if path == f"/files/{name}"]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    depot: Depot

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.depot.asked.append((self.path, self.headers.get("Range", "")))
        if self.depot.status:
            self.send_error(self.depot.status)
        elif self.path.startswith("/simple/"):
            self.index()
        elif (content := self.depot.files.get(self.path.removeprefix("/files/"))) is not None:
            self.file(content)
        else:
            self.send_error(404)

    def index(self) -> None:
        names = [name for name in self.depot.files if name.startswith(self.path.split("/")[2].replace("-", "_"))]
        if self.depot.json_index:
            kind = "application/vnd.pypi.simple.v1+json"
            text = json.dumps({"files": [{"filename": name, "url": f"../../files/{name}"} for name in names]})
        else:
            kind = "text/html"
            sums = {name: hashlib.sha256(self.depot.files[name]).hexdigest() for name in names}
            text = "".join(f'<a href="../../files/{name}#sha256={known}">{name}</a>' for name, known in sums.items())
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.pour(text.encode(), files=False)

    def do_HEAD(self) -> None:
        content = self.depot.files.get(self.path.removeprefix("/files/"))
        self.send_response(404 if content is None else 200)
        self.send_header("Content-Length", str(len(content or b"")))
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()

    def file(self, content: bytes) -> None:
        wanted = self.headers.get("Range") if self.depot.ranges else None
        first, _, last = (wanted or "bytes=0-").removeprefix("bytes=").partition("-")
        start, end = int(first), min(int(last or len(content)) + 1, len(content))
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(content)}")
        self.send_header("Content-Length", str(end - start))
        self.end_headers()
        stop = start + self.depot.cut.pop(0) if self.depot.cut else end
        self.pour(content[start:stop])
        self.close_connection = stop < end

    def pour(self, content: bytes, *, files: bool = True) -> None:
        try:
            for first in range(0, len(content), 4096):
                self.wfile.write(content[first : first + 4096])
                self.depot.sent += files * len(content[first : first + 4096])
                if self.depot.pause:
                    time.sleep(self.depot.pause)
        except OSError:  # whoever asked went away
            self.close_connection = True


@contextmanager
def depot() -> Iterator[Depot]:
    made = Depot()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"depot": made}))
    made.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that no archive makes smaller."""
    return hashlib.shake_128(str(seed).encode()).digest(size)


def wheel(members: Mapping[str, bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return target.getvalue()


def tar(members: Mapping[str, bytes | tarfile.TarInfo], *, programs: tuple[str, ...] = ()) -> bytes:
    """A value that is no content stands as it is: a link, a device."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
                continue
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755 if name in programs else 0o644
            archive.addfile(entry, io.BytesIO(content))
    return target.getvalue()


def zst(content: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(content)


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry


def locked(name: str, content: bytes, unpacked: int, **other: Any) -> PackFile:
    values: dict[str, Any] = {"name": name, "kind": "wheel", "size": len(content), "unpacked": unpacked}
    return PackFile.model_validate(values | {"sha256": hashlib.sha256(content).hexdigest()} | other)


def pack_of(*files: PackFile, **other: Any) -> Pack:
    values: dict[str, Any] = {"name": "torch-cuda", "version": "1.0", "machine": "x86_64", "gives": "torch"}
    return Pack.model_validate(values | {"min_driver": 580, "min_compute": 7.5, "files": files} | other)


def torch_pack(at: Depot, *, version: str = "1.0", size: int = 200_000) -> Pack:
    """Two wheels on the package index of the depot."""
    parts = {
        "torch": {"torch/__init__.py": version.encode(), "torch/lib/libtorch_cuda.so": noise(size)},
        "nvidia-cublas": {"nvidia/lib/libcublas.so": noise(size, 1)},
    }
    files = []
    for project, members in parts.items():
        name, content = f"{project.replace('-', '_')}-{version}-py3-none-any.whl", wheel(members)
        at.files[name] = content
        files.append(locked(name, content, sum(map(len, members.values())), project=project))
    return pack_of(*files, version=version)


def ollama_pack(at: Depot, *, version: str = "0.1", name: str = "ollama-cuda13") -> Pack:
    """One archive with an address of its own, as a release has it."""
    members: dict[str, bytes | tarfile.TarInfo] = {
        "./bin/ollama": b"#!/bin/sh\n",
        "./lib/ollama/libggml-base.so.0.1": noise(5000),
        "./lib/ollama/libggml-base.so.0": link("./lib/ollama/libggml-base.so.0", "libggml-base.so.0.1"),
        "./lib/ollama/cuda_v13/libggml-cuda.so": noise(50_000, 1),
        "./lib/ollama/cuda_v12/libggml-cuda.so": noise(90_000, 2),
    }
    content, archive = zst(tar(members, programs=("./bin/ollama",))), f"ollama-{version}.tar.zst"
    at.files[archive] = content
    other = {"url": f"{at.url}/files/{archive}", "kind": "tar.zst", "leave_out": ("lib/ollama/cuda_v12",)}
    return pack_of(locked(archive, content, 55_010, **other), name=name, version=version, gives="ollama")


def packs_at(at: Depot, home: Path, *wanted: Pack, **other: Any) -> Packs:
    values: dict[str, Any] = {"others": (), "first_pause": 0.01, "again_after": (0.01,)}
    return Packs(PackSetup(home=home, index=f"{at.url}/simple", wanted=wanted, **(values | other)))


def executable(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path
