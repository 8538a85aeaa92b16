"""A rig started, signalled, and looked at from outside."""

import json
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, STDOUT
from typing import Any

import anyio
from anyio.abc import Process

from supervisor.services.proc import Proc, environment_value, snapshot
from supervisor.services.reaper import OWNER_VARIABLE, bury_orphans, sweep
from tests.services.children import until

PATIENCE = 60.0  # seconds, on a machine that is busy with other things
CHECKOUT = Path(__file__).parents[3]
IGNORES = "trap '' TERM INT HUP;"
NOTES = 'trap \'echo "-$0" >> events; exit 0\' TERM; echo "+$0" >> events;'  # $0 is the name of the service
STAYS = "while :; do sleep 0.02; done"


def sh(name: str, script: str, **more: Any) -> dict[str, Any]:
    """A service that is a shell script, in the rig's folder; ready at once unless ``ready`` says otherwise."""
    return {"name": name, "argv": ["/bin/sh", "-c", script, name], **more}


def stays(name: str, *needs: str, **more: Any) -> dict[str, Any]:
    """Notes its start and its stop in the file ``events``."""
    return sh(name, f'{NOTES} touch "$0.up"; {STAYS}', ready=f"{name}.up", needs=needs, **more)


@dataclass(frozen=True)
class Rig:
    process: Process
    folder: Path

    @property
    def said(self) -> str:
        return (self.folder / "said").read_text()

    @property
    def events(self) -> list[str]:
        path = self.folder / "events"
        return path.read_text().split() if path.exists() else []

    async def ready(self) -> None:
        await until(lambda: (self.folder / "ready").exists() or self.process.returncode is not None, PATIENCE)
        assert self.process.returncode is None, self.said

    async def says(self, words: str, times: int = 1) -> None:
        await until(lambda: self.said.count(words) >= times or self.process.returncode is not None, PATIENCE)
        assert self.said.count(words) >= times, self.said

    async def makes(self, name: str) -> None:
        await until((self.folder / name).exists, PATIENCE)

    async def end(self, *numbers: signal.Signals, within: float = 10.0) -> int:
        """Its exit code after these signals; nothing of it is left then."""
        for number in numbers:
            self.process.send_signal(number)
        with anyio.fail_after(within):
            code = await self.process.wait()
        assert self.left() == [], f"{self.left()}\n{self.said}"
        return code

    def left(self) -> list[str]:
        """What lives and stems from it: has its mark, or works in its folder, whatever environment it has."""
        return [describe(proc) for proc in snapshot().values() if not proc.dead and self._ours(proc.pid)]

    def zombies(self) -> int:
        return sum(proc.dead for proc in snapshot().values() if proc.ppid == self.process.pid)

    def pids(self, name: str) -> list[int]:
        """What a script appended to a file with ``echo $$``."""
        path = self.folder / name
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def _ours(self, pid: int) -> bool:
        if pid == self.process.pid:
            return False
        mark = environment_value(pid, OWNER_VARIABLE) or ""
        return mark.startswith(f"{self.folder}#") or working_folder(pid) == self.folder


@asynccontextmanager
async def rig(
    folder: Path, *services: dict[str, Any], under: Sequence[str] = (), stop_within: float = 8.0
) -> AsyncIterator[Rig]:
    """Killed when the block ends, if it still lives then, with what is left of it. ``under``: a program in front."""
    (folder / "rig.json").write_text(json.dumps({"services": services, "stop_within": stop_within}))
    (folder / "ready").unlink(missing_ok=True)
    command = [*under, sys.executable, "-W", "error", "-m", "tests.services.scenarios.rig", str(folder)]
    with (folder / "said").open("ab") as said:
        process = await anyio.open_process(command, stdin=DEVNULL, stdout=said, stderr=STDOUT, cwd=CHECKOUT)
    try:
        with anyio.fail_after(2 * PATIENCE):
            yield Rig(process, folder)
    finally:
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
            await process.wait()
        sweep(str(folder))
        bury_orphans()


def describe(proc: Proc) -> str:
    try:
        command = Path(f"/proc/{proc.pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:  # gone
        command = "gone"
    return f"{proc.pid} {proc.state} {command}"


def working_folder(pid: int) -> Path | None:
    try:
        return Path(f"/proc/{pid}/cwd").readlink()
    except OSError:  # gone, or not ours to look at
        return None
