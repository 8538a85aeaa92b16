"""Servers for tests: ``ollama_server`` and ``registry_server``, each a process of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import anyio
import httpx
import psutil
from anyio.abc import Process

from tests.fakes.ollama.quirks import Quirks
from tests.fakes.ports import free_port

ROOT = Path(__file__).resolve().parents[3]
TINY_CHAT = ROOT / "models" / "tiny-chat" / "tiny-chat.gguf"
S = TypeVar("S", bound="Served")
LINGER = 2.0  # seconds for runners to follow their server; some are told to outlive it
START_TIMEOUT = 60.0  # seconds on a busy machine


@dataclass
class Served:
    """A process at ``url``; ``log`` has what it wrote."""

    url: str
    log: Path
    argv: Sequence[str]
    env: Mapping[str, str]
    process: Process | None = None

    async def start(self) -> None:
        """Return once it answers."""
        with self.log.open("ab") as log:
            self.process = await anyio.open_process(
                self.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env, cwd=ROOT
            )
        with anyio.fail_after(START_TIMEOUT):
            async with httpx.AsyncClient(trust_env=False) as client:
                while not await answers(client, self.url):
                    if self.process.returncode is not None:
                        raise RuntimeError(f"{self.argv[3:]} ended at once: {self.log.read_text()}")
                    await anyio.sleep(0.02)

    async def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Return once it has ended, and the dead of its runners are buried: a test may have made us their parent."""
        if self.process is not None:
            runners = below(self.process.pid)
            if self.process.returncode is None:
                self.process.send_signal(how)
            await self.process.wait()
            with anyio.move_on_after(LINGER):
                while runners := [pid for pid in runners if not buried(pid)]:  # noqa: ASYNC110
                    await anyio.sleep(0.01)

    async def kill(self) -> None:
        await self.stop(signal.SIGKILL)

    async def restart(self) -> None:
        await self.stop()
        await self.start()


@dataclass
class OllamaServer(Served):
    models: Path = field(default_factory=Path)

    async def quirks(self, **values: Any) -> Quirks:
        """Change some, from now on; they are forgotten by a restart."""
        async with httpx.AsyncClient(base_url=self.url, trust_env=False) as client:
            answer = await client.post("/_standin/quirks", json=values)
        answer.raise_for_status()
        return Quirks.model_validate(answer.json())


def below(pid: int) -> list[int]:
    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def buried(pid: int) -> bool:
    """Whether nothing is left of a process that may have become our child."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


async def answers(client: httpx.AsyncClient, url: str) -> bool:
    try:
        await client.get(url)
    except httpx.TransportError:
        return False
    return True


@asynccontextmanager
async def ollama_server(
    folder: Path, quirks: Quirks | None = None, env: Mapping[str, str] | None = None
) -> AsyncGenerator[OllamaServer, None]:
    """``folder`` gets the store (``folder/models``, kept from an earlier server) and the log."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        **os.environ,
        "OLLAMA_HOST": f"127.0.0.1:{port}",
        "OLLAMA_MODELS": str(folder / "models"),
        "STANDIN_QUIRKS": (quirks or Quirks()).model_dump_json(),
        **(env or {}),
    }
    argv = [sys.executable, "-m", "tests.fakes.ollama", "serve"]
    url = f"http://127.0.0.1:{port}"
    server = OllamaServer(url, folder / "ollama.log", argv, settings, models=Path(settings["OLLAMA_MODELS"]))
    async with served(server):
        yield server


@asynccontextmanager
async def registry_server(folder: Path) -> AsyncGenerator[Served, None]:
    """Serves what ``registry.publish`` put into ``folder``; give its url as the quirk ``registry``."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    argv = [sys.executable, "-m", "tests.fakes.ollama", "registry", str(folder), "--port", str(port)]
    async with served(Served(f"http://127.0.0.1:{port}", folder.with_suffix(".log"), argv, dict(os.environ))) as server:
        yield server


@asynccontextmanager
async def served(server: S) -> AsyncGenerator[S, None]:
    try:
        await server.start()
        yield server
    finally:
        with anyio.CancelScope(shield=True):
            await server.stop()
