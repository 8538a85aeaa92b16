"""The real product: ``clawlama up`` as a child process on a folder and ports of its own, and how to look at it."""

import hashlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import DEVNULL, STDOUT
from typing import Any

import anyio
import httpx
from anyio.abc import Process

from supervisor.running import read_running
from supervisor.services.proc import Proc, ancestors, environment_value, snapshot
from supervisor.services.reaper import OWNER_VARIABLE, bury_orphans, sweep
from supervisor.services.status import ServiceStatus
from supervisor.settings.datadir import DataDir
from tests.fakes.ports import free_port

CHECKOUT = Path(__file__).parents[2]
NODE = Path(os.environ.get("CLAWLAMA_NODE_PREFIX", CHECKOUT / ".node"))
PATIENCE = 600.0  # seconds for a start on a machine that is busy with other things
STOP_WITHIN = 10.0  # seconds; what Docker allows


@dataclass(frozen=True)
class Place:
    """A data folder with its ports, shared by all lives of the supervisor in one test."""

    folder: Path
    more: Mapping[str, str] = field(default_factory=dict)
    api_port: int = field(default_factory=free_port)
    openclaw_port: int = field(default_factory=free_port)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def temporary(self) -> Path:
        return self.folder / "tmp"

    @property
    def log(self) -> Path:
        """What all lives printed."""
        return self.folder / "output.txt"

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.api_port}"

    @property
    def openclaw(self) -> str:
        return f"http://127.0.0.1:{self.openclaw_port}"

    def environment(self) -> dict[str, str]:
        around = {name: value for name, value in os.environ.items() if not name.startswith("CLAWLAMA_")}
        return {
            **around,
            "CLAWLAMA_DATA": str(self.data),
            "CLAWLAMA_API_PORT": str(self.api_port),
            "CLAWLAMA_OPENCLAW_PORT": str(self.openclaw_port),
            "CLAWLAMA_NODE_PREFIX": str(NODE),
            "TMPDIR": str(self.temporary),
            **self.more,
        }

    def secret(self, name: str) -> str:
        return (self.data / "secrets" / name).read_text().strip()

    def client(self) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {self.secret('api_token')}"}
        return httpx.AsyncClient(base_url=self.api, headers=headers, timeout=60, trust_env=False)

    def owned(self) -> list[Proc]:
        """Living processes that some life of the supervisor started here."""
        return [proc for proc in snapshot().values() if not proc.dead and self._marked(proc.pid)]

    def strays(self, supervisor: int) -> list[str]:
        """Command lines of those that are not below this supervisor."""
        table = snapshot()
        return [command_line(proc.pid) for proc in self.owned() if supervisor not in ancestors(proc.pid, table)]

    def trainers(self) -> list[int]:
        return [proc.pid for proc in self.owned() if "supervisor.distill" in command_line(proc.pid)]

    def litter(self) -> list[str]:
        """Files of ours outside the data folder."""
        locks = Path("/tmp").glob("openclaw-state-locks-*/*")
        digests = {hashlib.sha256(str(path).encode()).hexdigest()[:8] for path in self.data.resolve().rglob("*.sqlite")}
        ours = [str(path) for path in locks if any(f".{digest}." in path.name for digest in digests)]
        return ours + [str(path) for path in self.temporary.rglob("*")]

    def _marked(self, pid: int) -> bool:
        return (environment_value(pid, OWNER_VARIABLE) or "").startswith(f"{self.data}#")


@dataclass(frozen=True)
class Life:
    """One supervisor, from its start to its end."""

    place: Place
    process: Process
    began: int  # where its output begins in the place's log

    @property
    def said(self) -> str:
        return self.place.log.read_bytes()[self.began :].decode(errors="replace")

    async def health(self) -> dict[str, Any]:
        async with self.place.client() as client:
            answer: dict[str, Any] = (await client.get("/v1/health")).json()
            return answer

    async def api_up(self) -> dict[str, Any]:
        """The first health report. AssertionError when the supervisor ends before it gives one."""
        with anyio.fail_after(PATIENCE):
            while True:
                assert self.process.returncode is None, f"it ended: {self.last_words()}"
                try:
                    return await self.health()
                except (httpx.TransportError, FileNotFoundError):
                    await anyio.sleep(0.05)

    async def ready(self) -> None:
        """Return once everything has been ready."""
        data = DataDir(self.place.data)
        with anyio.fail_after(PATIENCE):
            while (running := read_running(data)) is None or not running.ready or running.pid != self.process.pid:
                assert self.process.returncode is None, f"it ended: {self.last_words()}"
                await anyio.sleep(0.1)

    async def comes_to(self, due: Callable[["Life"], bool]) -> None:
        """Return once this is so. AssertionError, with what it printed, when it ends before or takes too long."""
        with anyio.move_on_after(PATIENCE):
            while not due(self):
                assert self.process.returncode is None, f"it ended: {self.last_words()}"
                await anyio.sleep(0.02)
            return
        raise AssertionError(f"still not so after {PATIENCE:.0f} s: {self.last_words()}")

    async def owns_something(self) -> None:
        """Return once it has started its first process."""
        await self.comes_to(lambda life: bool(life.place.owned()))

    async def service(self, name: str, due: Callable[[ServiceStatus], bool]) -> ServiceStatus:
        """A service's status as soon as it is as wanted."""
        with anyio.fail_after(PATIENCE):
            while True:
                found = next(one for one in (await self.api_up())["services"] if one["name"] == name)
                if due(status := ServiceStatus.model_validate(found)):
                    return status
                await anyio.sleep(0.05)

    async def end(self, number: signal.Signals) -> int:
        """Its exit code, within the time that Docker gives."""
        self.process.send_signal(number)
        with anyio.fail_after(STOP_WITHIN):
            return await self.process.wait()

    def last_words(self) -> str:
        return self.said[-4000:]


@asynccontextmanager
async def started(place: Place) -> AsyncIterator[Life]:
    """Killed when the block ends, if it still lives then; whatever is left of it goes too."""
    place.temporary.mkdir(parents=True, exist_ok=True)
    with place.log.open("ab") as log:
        began = log.tell()
        # In our own session: only what lives in another one is taken for an orphan (services.reaper).
        process = await anyio.open_process(
            [sys.executable, "-m", "supervisor", "up"],
            env=place.environment(),
            stdin=DEVNULL,
            stdout=log,
            stderr=STDOUT,
        )
    try:
        yield Life(place, process, began)
    finally:
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
                await process.wait()


def clear_away(place: Place) -> None:
    """Leave nothing running, however the test ended."""
    sweep(str(place.data))
    bury_orphans()


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:  # gone
        return ""
