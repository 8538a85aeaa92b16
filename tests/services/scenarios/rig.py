"""A supervisor in small: the services that a file describes, and nothing else. Driven by signals.

``python -m tests.services.scenarios.rig FOLDER`` reads FOLDER/rig.json, makes FOLDER/ready once everything is, and
ends with the exit code that ``clawlama up`` would end with. SIGHUP restarts what FOLDER/restart names, all at once.
"""

import re
import signal
import sys
from pathlib import Path

from supervisor.__main__ import nothing_started

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, nothing_started)
    Path(sys.argv[1], "begun").touch()

import anyio
from pydantic import BaseModel

from supervisor.errors import ClawlamaError
from supervisor.log import set_up_logging
from supervisor.services.output import LogFile, Output
from supervisor.services.process import Command
from supervisor.services.readiness import EndsWell, Liveness, Probe, Readiness, SaysLine, WritesNewline
from supervisor.services.reaper import adopt_orphans, end_descendants, sweep
from supervisor.services.restart import RestartPolicy
from supervisor.services.service import Service
from supervisor.services.signals import Signals, signals_heeded
from supervisor.services.tree import Tree, supervised


class Spec(BaseModel, extra="forbid"):
    """One service. ``ready``: at once | never | exit | fd | line PATTERN | URL; else a file that it makes."""

    name: str
    argv: tuple[str, ...]
    ready: str = "at once"
    needs: tuple[str, ...] = ()
    essential: bool = True
    start_timeout: float = 30.0
    grace: float = 5.0
    patience: int = 2
    fatal_exits: dict[int, str] = {}
    alive: str = ""  # URL
    log_limit: int = 100_000


class RigSpec(BaseModel, extra="forbid"):
    services: list[Spec]
    stop_within: float = 8.0


def readiness(ready: str, folder: Path) -> Readiness:
    kind, _, rest = ready.partition(" ")
    match kind:
        case "exit":
            return EndsWell()
        case "fd":
            return WritesNewline()
        case "line":
            return SaysLine(re.compile(rest))
        case "never":
            return anyio.sleep_forever
        case "at":
            return anyio.lowlevel.checkpoint
    return answers(ready) if "://" in ready else appears(folder / ready)


def answers(url: str) -> Probe:
    from supervisor.services.probe import http_answers

    return http_answers(url, every=0.02, timeout=1.0)


def appears(path: Path) -> Probe:
    async def made() -> None:
        while not path.exists():  # noqa: ASYNC110 - nothing announces it
            await anyio.sleep(0.01)
        path.unlink()

    return made


def service(spec: Spec, folder: Path) -> Service:
    return Service(
        spec.name,
        lambda: Command(spec.argv, cwd=folder),
        readiness(spec.ready, folder),
        Output(spec.name, file=LogFile(folder / "logs" / spec.name, limit=spec.log_limit)),
        needs=spec.needs,
        essential=spec.essential,
        alive=Liveness(answers(spec.alive), every=0.1, within=0.5, misses=2) if spec.alive else None,
        start_timeout=spec.start_timeout,
        grace=spec.grace,
        policy=RestartPolicy(patience=spec.patience, first_pause=0.02, healthy_after=5.0),
        fatal_exits=spec.fatal_exits,
        owner=str(folder),
    )


async def stay_up(folder: Path) -> None:
    spec = RigSpec.model_validate_json((folder / "rig.json").read_text())
    adopt_orphans()
    await anyio.to_thread.run_sync(sweep, str(folder))
    try:
        async with signals_heeded(say) as signals, supervised(stop_within=spec.stop_within) as tree:
            await tree.start(*(service(one, folder) for one in spec.services))
            heed_hangups(signals, tree, folder)
            (folder / "ready").touch()
            await anyio.sleep_forever()
    finally:
        await end_descendants()


def heed_hangups(signals: Signals, tree: Tree, folder: Path) -> None:
    async def restart() -> None:
        names = (folder / "restart").read_text().split()
        async with anyio.create_task_group() as tg:
            for name in names:
                tg.start_soon(tree.restart, name)
        say(f"restarted {' '.join(names)}")

    signals.reload = restart


def say(line: str) -> None:
    sys.stderr.write(line + "\n")


def main(folder: Path) -> int:
    set_up_logging("debug", "json")
    code = 0
    try:
        anyio.run(stay_up, folder)
    except* ClawlamaError as group:
        error = first(group)
        say(f"error: {error}")
        code = error.exit_code
    return code


def first(group: BaseExceptionGroup[ClawlamaError]) -> ClawlamaError:
    error = group.exceptions[0]
    return first(error) if isinstance(error, BaseExceptionGroup) else error


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
