"""clawlama restart, stop, reload: buttons of the running supervisor, each with what came of it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import monotonic, sleep
from typing import Annotated
from urllib.parse import quote

import typer

from supervisor.cli.client import Refused, connected
from supervisor.cli.options import AsJson, Data
from supervisor.cli.show import as_json, console, errors
from supervisor.running import held
from supervisor.settings.datadir import DataDir
from supervisor.settings.sources import load_settings

PATIENCE = 60.0  # seconds; a stop has a deadline of its own, well below
LOOK_AGAIN = 0.1  # seconds


def restart(
    service: Annotated[str, typer.Argument(help="Its name, as in: clawlama status.")],
    data: Data = None,
    json: AsJson = False,
) -> None:
    """Restart one service and wait until it is ready."""
    with connected(load_settings(data=data)) as client, waiting(f"restarting {service}"):
        status = client.post(f"/v1/services/{quote(service, safe='')}/restart", {})
    if json:
        as_json(status)
        return
    after = status["ready_after"]
    took = "" if after is None else f" after {after:.1f} s"
    say(f"{status['name']} is {status['state']}{took}, pid {status['pid']}")


def stop(data: Data = None) -> None:
    """Stop everything and wait until the data folder is free.

    A container that is told to restart starts again; stop that one with: docker stop.
    """
    settings = load_settings(data=data)
    folder = DataDir(settings.data)
    with connected(settings) as client, waiting("stopping"):
        client.post("/v1/stop", {})
        deadline = monotonic() + PATIENCE
        while held(folder):
            if monotonic() > deadline:
                raise Refused(f"{settings.data} is still in use after {PATIENCE:.0f} s; see: clawlama logs clawlama")
            sleep(LOOK_AGAIN)
    say(f"stopped; everything you taught it is kept in {settings.data}")


def reload(data: Data = None, json: AsJson = False) -> None:
    """Read the settings again, and restart only what read those that changed."""
    with connected(load_settings(data=data)) as client, waiting("reloading"):
        came = client.post("/v1/reload", {})
    if json:
        as_json(came)
        return
    if not came["changed"]:
        say("nothing has changed")
    tell("changed", came["changed"])
    tell("restarted", came["restarted"])
    tell("applied by a whole restart only", came["needs_restart"])


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """A sign of life where a person looks on."""
    with errors.status(f"{what} …"):
        yield


def tell(what: str, names: Sequence[str]) -> None:
    if names:
        say(f"{what}: {', '.join(names)}")


def say(line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)
