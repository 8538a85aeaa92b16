"""Every path under the data folder, named once."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from supervisor.errors import AlreadyRunning, MachineError
from supervisor.identity import refusal


@dataclass(frozen=True)
class DataDir:
    """The data folder; making one touches nothing, ``prepare`` creates what is missing."""

    root: Path

    @property
    def journal(self) -> Path:
        return self.root / "journal.db"

    @property
    def adapters(self) -> Path:
        return self.root / "adapters"

    @property
    def lessons(self) -> Path:
        """One folder per lesson in work; emptied when it ends."""
        return self.root / "lessons"

    @property
    def feedback(self) -> Path:
        return self.root / "feedback"

    @property
    def secrets(self) -> Path:
        return self.root / "secrets"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def run(self) -> Path:
        """What describes the running supervisor: lock, address, the engine's port."""
        return self.root / "run"

    @property
    def packs(self) -> Path:
        """What a GPU needs, where the image did not bring it; can be downloaded again."""
        return self.root / "packs"

    @property
    def openclaw(self) -> Path:
        """OpenClaw's own world: config, state, cache, temporary files."""
        return self.root / "openclaw"

    @property
    def workspace(self) -> Path:
        return self.root / "workspace"

    def prepare(self) -> None:
        """Create the folders, private to us. MachineError when the place is not writable."""
        for path in (self.root, self.adapters, self.lessons, self.feedback, self.secrets, self.logs, self.run):
            try:
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as exc:
                if isinstance(exc, PermissionError) and self.root.is_dir():
                    raise MachineError(refusal(self.root)) from exc
                raise MachineError(
                    f"data folder {path} cannot be created: {exc.strerror}; "
                    "choose another with CLAWLAMA_DATA or make it writable for this user"
                ) from exc
        if not os.access(self.root, os.W_OK):
            raise MachineError(refusal(self.root))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for this process; the kernel lets go when we die.

        Raises AlreadyRunning when another has it, MachineError when the lock file cannot be written.
        """
        with self._lock_file() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as exc:
                file.seek(0)
                pid = file.read().strip() or "unknown"
                raise AlreadyRunning(
                    f"{self.root} is in use by a running clawlama (pid {pid}); "
                    "stop that one first, or choose another folder with CLAWLAMA_DATA"
                ) from exc
            file.seek(0)
            file.truncate()
            file.write(f"{os.getpid()}\n")
            file.flush()
            yield

    def _lock_file(self) -> TextIO:
        path = self.run / "lock"
        try:
            return path.open("a+")
        except PermissionError as exc:
            raise MachineError(refusal(path if path.exists() else path.parent)) from exc
        except OSError as exc:
            raise MachineError(
                f"{path} cannot be opened: {exc.strerror}; make the data folder writable for this user, "
                "or choose another with CLAWLAMA_DATA"
            ) from exc
