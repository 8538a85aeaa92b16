"""What a running supervisor says of itself in the data folder, so that commands find it."""

import fcntl

from pydantic import BaseModel, ValidationError

from supervisor.settings.datadir import DataDir
from supervisor.settings.secrets import write_private

FILE = "supervisor.json"


class Running(BaseModel, frozen=True, extra="forbid"):
    """Addresses and tokens of a supervisor that is up; the file is private to its user."""

    pid: int
    version: str
    model: str
    adapter: str
    api_url: str
    api_token: str
    openclaw_url: str
    openclaw_token: str
    ready: bool = True  # False while it starts: its API answers, the assistant does not yet


def write_running(data: DataDir, running: Running) -> None:
    write_private(data.run / FILE, running.model_dump_json(indent=2) + "\n")


def forget_running(data: DataDir) -> None:
    (data.run / FILE).unlink(missing_ok=True)


def read_running(data: DataDir) -> Running | None:
    """None when nobody holds the folder's lock, whatever a dead one left behind, or it is not up yet."""
    if not held(data):
        return None
    try:
        return Running.model_validate_json((data.run / FILE).read_text())
    except (OSError, ValidationError):
        return None


def held(data: DataDir) -> bool:
    """Whether a living process holds the data folder."""
    try:
        with (data.run / "lock").open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (FileNotFoundError, NotADirectoryError, PermissionError):  # none, or none that this user may look at
        return False
    except BlockingIOError:
        return True
    return False
