"""/api/pull: manifest, then blobs in parts, then the digests, then the manifest's file.

A download belongs to the server: two callers share it, and it stops when nobody waits for it any more. What is kept of
it is what Ollama keeps: ``…-partial`` and one ``…-partial-N`` with the progress, written when a connection ends.
"""

import errno
import hashlib
import json
import os
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import httpx
from anyio.abc import TaskGroup

from tests.fakes.ollama.answer import Chunk, Chunks
from tests.fakes.ollama.failures import Refused
from tests.fakes.ollama.names import Name
from tests.fakes.ollama.quirks import Switchboard
from tests.fakes.ollama.settings import Environment
from tests.fakes.ollama.store import MANIFEST, Layer, Store, parse_manifest

TRIES = 6
TICK = 0.06  # seconds between two progress lines
PIECE = 64 * 1024  # bytes
PARTS = 16


@dataclass
class Download:
    layer: Layer
    completed: int = 0
    waiting: int = 0
    failure: str | None = None
    done: anyio.Event = field(default_factory=anyio.Event)
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)

    @property
    def progress(self) -> Chunk:
        found = {"status": f"pulling {self.layer.digest[7:19]}", "digest": self.layer.digest, "total": self.layer.size}
        return found | ({"completed": self.completed} if self.completed else {})


class Puller:
    """Works inside ``async with puller.running()``: downloads live there."""

    _tasks: TaskGroup
    _client: httpx.AsyncClient

    def __init__(self, store: Store, environment: Environment, board: Switchboard) -> None:
        self._store = store
        self._environment = environment
        self._board = board
        self._downloads: dict[str, Download] = {}

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None, None]:
        async with (
            httpx.AsyncClient(timeout=10.0, trust_env=False) as self._client,
            anyio.create_task_group() as self._tasks,
        ):
            yield
            self._tasks.cancel_scope.cancel()

    def drop(self, digests: Iterable[str]) -> None:
        """Blobs of a manifest that was replaced, unless another needs them."""
        if not self._environment.no_prune:
            self._store.drop_unused(digests)

    async def pull(self, name: Name) -> Chunks:
        """Raises Refused."""
        old = self._old_digests(name)
        yield {"status": "pulling manifest"}
        content = await self._manifest(name)
        manifest = parse_manifest(content)
        layers = [*manifest.layers, manifest.config]
        fresh = [layer for layer in layers if not self._store.blob(layer.digest).exists()]
        for layer in layers:
            async for progress in self._fetch(name, layer):
                yield progress
        yield {"status": "verifying sha256 digest"}
        for layer in fresh:
            await anyio.to_thread.run_sync(self._verify, layer)
        yield {"status": "writing manifest"}
        await self._store.write(name, content)
        if unused := old - manifest.digests:
            yield {"status": "removing unused layers"}
            self.drop(unused)
        yield {"status": "success"}

    def _old_digests(self, name: Name) -> set[str]:
        try:
            return self._store.read(name).manifest.digests
        except (Refused, FileNotFoundError):
            return set()

    async def _manifest(self, name: Name) -> bytes:
        path = f"/v2/{name.repository}/manifests/{name.tag}"
        try:
            return (await self._ask("GET", name, path, {"Accept": MANIFEST})).content
        except Refused as refused:
            raise Refused(500, f"pull model manifest: {refused.message}") from refused

    async def _ask(self, method: str, name: Name, path: str, headers: dict[str, str]) -> httpx.Response:
        try:
            answer = await self._client.request(method, self._address(method, name, path), headers=headers)
        except httpx.TransportError as exc:
            raise Refused(500, no_route(method, name, path, str(exc))) from exc
        return checked(answer)

    def _address(self, method: str, name: Name, path: str) -> str:
        """Where the registry really is. Raises Refused without a network."""
        registry = self._board.now.registry
        if registry is None:
            raise Refused(500, no_route(method, name, path, f"dial tcp: lookup {name.host}: no such host"))
        if self._board.now.registry_failures and self._board.use_up("registry_failures"):
            raise Refused(500, "503: Service Unavailable")
        return registry + path

    async def _fetch(self, name: Name, layer: Layer) -> Chunks:
        """Progress until the blob is there; giving up ends the download when nobody else waits for it."""
        path = self._store.blob(layer.digest)
        if path.exists():
            size = path.stat().st_size
            yield {**Download(layer).progress, "total": size, "completed": size}
            return
        download = self._downloads.get(layer.digest)
        if download is None:
            download = self._downloads[layer.digest] = Download(layer)
            self._tasks.start_soon(self._run, download, name)
        download.waiting += 1
        try:
            while not download.done.is_set():
                yield download.progress
                with anyio.move_on_after(TICK):
                    await download.done.wait()
        finally:
            download.waiting -= 1
            if not download.waiting:
                download.scope.cancel()
        if download.failure is not None:
            yield download.progress  # Ollama pauses for seconds before it gives up, and tells how far it came meanwhile
            raise Refused(500, download.failure)
        yield {**download.progress, "completed": layer.size}

    async def _run(self, download: Download, name: Name) -> None:
        try:
            with download.scope:
                await BlobFile(self._store, self._board, download).fill(
                    self._client, self._blob_address(name, download)
                )
        except Refused as refused:
            download.failure = refused.message
        except OSError as exc:
            download.failure = (
                f"write {self._store.blob(download.layer.digest)}-partial: {os.strerror(exc.errno or 0).lower()}"
            )
        finally:
            del self._downloads[download.layer.digest]
            if download.scope.cancel_called and download.failure is None:
                download.failure = "context canceled"
            download.done.set()

    def _blob_address(self, name: Name, download: Download) -> str:
        return self._address("GET", name, f"/v2/{name.repository}/blobs/{download.layer.digest}")

    def _verify(self, layer: Layer) -> None:
        path = self._store.blob(layer.digest)
        with path.open("rb") as file:
            found = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        if found != layer.digest:
            path.unlink()
            raise Refused(500, f"digest mismatch, file must be downloaded again: want {layer.digest}, got {found}")


class BlobFile:
    """The partial file of one download, and its parts."""

    def __init__(self, store: Store, board: Switchboard, download: Download) -> None:
        self._board = board
        self._download = download
        self._store = store
        self._path = store.blob(download.layer.digest)
        self._partial = Path(f"{self._path}-partial")

    async def fill(self, client: httpx.AsyncClient, address: str) -> None:
        """Raises Refused, OSError (disk full)."""
        parts = self._parts()
        self._download.completed = sum(part["Completed"] for part in parts)
        self._partial.touch()
        os.truncate(self._partial, self._download.layer.size)
        for part in parts:
            await self._fill_part(client, address, part)
        for part in parts:
            self._part_file(part).unlink()
        self._partial.replace(self._path)

    def _parts(self) -> list[dict[str, Any]]:
        found = [json.loads(path.read_text()) for path in self._path.parent.glob(f"{self._path.name}-partial-*")]
        if found:
            return sorted(found, key=lambda part: int(part["N"]))
        total = self._download.layer.size
        size = min(max(total // PARTS, self._board.now.part_bytes), 10 * self._board.now.part_bytes)
        parts = [
            {"N": n, "Offset": offset, "Size": min(size, total - offset), "Completed": 0}
            for n, offset in enumerate(range(0, total, size))
        ]
        for part in parts:
            self._keep(part)
        return parts

    def _part_file(self, part: dict[str, Any]) -> Path:
        return Path(f"{self._partial}-{part['N']}")

    def _keep(self, part: dict[str, Any]) -> None:
        path = self._part_file(part)
        fresh = path.with_name(f".{path.name}")
        fresh.write_text(json.dumps(part) + "\n")
        fresh.replace(path)  # in one step: others read it

    async def _fill_part(self, client: httpx.AsyncClient, address: str, part: dict[str, Any]) -> None:
        pause = self._board.now.retry_seconds
        for _ in range(TRIES):
            if part["Completed"] == part["Size"]:
                return
            try:
                await self._connect(client, address, part)
            except httpx.TransportError as exc:
                last = str(exc) or type(exc).__name__
                await anyio.sleep(pause)
                pause *= 2
        if part["Completed"] < part["Size"]:
            raise Refused(500, f"max retries exceeded: {last}")

    async def _connect(self, client: httpx.AsyncClient, address: str, part: dict[str, Any]) -> None:
        """One connection; the progress is written down when it ends, however it does."""
        first = part["Offset"] + part["Completed"]
        headers = {"Range": f"bytes={first}-{part['Offset'] + part['Size'] - 1}"}
        cut = self._cut()
        came = 0
        try:
            async with client.stream("GET", address, headers=headers) as answer:
                checked(answer)
                with self._partial.open("r+b") as file:
                    file.seek(first)
                    async for data in answer.aiter_bytes(PIECE):
                        if cut is not None and came + len(data) > cut:
                            raise httpx.ReadError("unexpected EOF")
                        self._check_disk(came + len(data))
                        file.write(self._spoilt(data))
                        came += len(data)
                        self._download.completed += len(data)
                        await self._slowly(len(data))
        finally:
            part["Completed"] += came
            self._keep(part)

    def _cut(self) -> int | None:
        cut = self._board.now.cut_after_bytes
        return cut if cut is not None and self._board.use_up("cut_times") else None

    def _check_disk(self, more: int) -> None:
        room = self._board.now.disk_bytes
        if room is None:
            return
        used = sum(path.stat().st_size for path in self._store.blobs.iterdir() if "-partial" not in path.name)
        if used + self._download.completed + more > room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _spoilt(self, data: bytes) -> bytes:
        return bytes([data[0] ^ 1]) + data[1:] if self._board.now.corrupt else data

    async def _slowly(self, count: int) -> None:
        if rate := self._board.now.pull_bytes_per_second:
            await anyio.sleep(count / rate)


def checked(answer: httpx.Response) -> httpx.Response:
    if answer.status_code == 404:
        raise Refused(500, "file does not exist")
    if answer.status_code >= 400:
        raise Refused(500, f"{answer.status_code}: {answer.reason_phrase}")
    return answer


def no_route(method: str, name: Name, path: str, why: str) -> str:
    return f'{method.capitalize()} "https://{name.host}{path}": {why}'
