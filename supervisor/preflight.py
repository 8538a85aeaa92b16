"""Can we start?  Looked at before anything is started, by ``clawlama up`` and, for people, by ``clawlama doctor``."""

import errno
import secrets
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx

from supervisor.engines.ollama.server import find_ollama
from supervisor.engines.ollama.setup import address
from supervisor.errors import ClawlamaError, MachineError
from supervisor.gateway.find import Runtime, find_runtime
from supervisor.host.detect import detect
from supervisor.host.facts import HostFacts
from supervisor.host.limits import nearest
from supervisor.identity import refusal
from supervisor.plan.catalog import CATALOG
from supervisor.plan.choose import Choice, choose
from supervisor.plan.decide import decide
from supervisor.plan.memory import GIB, idle
from supervisor.plan.models import model_facts
from supervisor.plan.plan import Plan
from supervisor.plan.recommend import default_model
from supervisor.running import held
from supervisor.settings.datadir import DataDir
from supervisor.settings.settings import Settings
from supervisor.settings.sources import child_environment

PORT_PATIENCE = 3.0  # seconds
MIN_FREE = 2 * GIB  # journal, OpenClaw's state and a few adapter versions with room to spare


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; ``detail`` says what is so or, when not ``ok``, what to do."""

    name: str
    ok: bool
    detail: str


def findings(settings: Settings, facts: HostFacts, *, starting: bool = False) -> Iterator[Finding]:
    """Look at everything; starts nothing and leaves nothing behind.

    ``starting``: leave out what the start waits for anyway, an Ollama server that is still coming up.
    """
    running = held(DataDir(settings.data))
    yield found("data folder", lambda: data_folder(settings.data))
    yield found("disk", lambda: disk(facts))
    yield found("memory and model", lambda: model_fits(facts, settings))
    if not starting and choice_for(facts, settings).engine == "ollama":
        yield found("Ollama", lambda: describe_ollama(settings))
    yield found("Node and OpenClaw", lambda: describe(runtime(settings)))
    if settings.api_port == settings.openclaw_port:
        both = f"CLAWLAMA_API_PORT and CLAWLAMA_OPENCLAW_PORT are both {settings.api_port}; give each its own"
        yield Finding("ports", ok=False, detail=both)
    for name, host, port, variable in ports(settings):
        if running:
            yield Finding(name, ok=True, detail=f"{port}, used by the running clawlama")
        else:
            yield found(name, partial(port_free, host, port, variable))


def check(settings: Settings) -> None:
    """Raise MachineError with every problem found; return when there is none."""
    looked_at = findings(settings, detect(settings.data), starting=True)
    problems = [f"{finding.name}: {finding.detail}" for finding in looked_at if not finding.ok]
    if problems:
        raise MachineError("\n".join(problems))


def runtime(settings: Settings) -> Runtime:
    return find_runtime(settings.node_prefix, child_environment().get("PATH", ""))


def describe(found: Runtime) -> str:
    return f"Node {found.node_version}, OpenClaw {found.openclaw_version}"


def choice_for(facts: HostFacts, settings: Settings) -> Choice:
    return choose(settings, default_model(facts))


def plan_for(facts: HostFacts, settings: Settings) -> Plan | None:
    """None for a model of Ollama's that is not in our catalog: nothing is known of it before it is pulled.

    Raises MachineError when it does not fit here, SettingsError when its folder is not in order.
    """
    choice = choice_for(facts, settings)
    if choice.engine == "llama":
        return decide(facts, settings, model_facts(choice.model))
    known = CATALOG.get(choice.model)
    here = address(settings.ollama_host).local
    return decide(facts, settings, known.facts(), server_here=here) if known else None


def model_fits(facts: HostFacts, settings: Settings) -> str:
    """An Ollama that runs already may hold the model: its memory is taken and yet there, so all of it counts."""
    engine = choice_for(facts, settings).engine
    plan = plan_for(idle(facts) if engine == "ollama" else facts, settings)
    if plan is None:
        return f"{choice_for(facts, settings).model}: known once Ollama has it"
    return plan.reasons[0].removeprefix("engine: ")


def describe_ollama(settings: Settings) -> str:
    at = address(settings.ollama_host)
    try:
        version = httpx.get(f"{at.url}/api/version", timeout=2, trust_env=False).raise_for_status().json()["version"]
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as exc:
        ours = find_ollama(child_environment().get("PATH"))
        if at.local and ours:
            return f"{ours}, started by us at {at.netloc}"
        raise MachineError(
            f"none answers at {at.url} ({exc or type(exc).__name__}); start it there, set OLLAMA_HOST to where it is, "
            "or install it here: https://ollama.com/download"
        ) from exc
    return f"{version} at {at.url}"


def found(name: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(name, ok=True, detail=look())
    except ClawlamaError as exc:
        return Finding(name, ok=False, detail=str(exc))


def data_folder(root: Path) -> str:
    """Try it out: the owner may be right and the file system still read-only."""
    try:
        with tempfile.TemporaryFile(dir=nearest(root)):
            return str(root)
    except PermissionError as exc:
        raise MachineError(refusal(nearest(root))) from exc
    except OSError as exc:
        raise MachineError(
            f"{root} is not writable ({exc.strerror}); make it writable for this user, "
            "or choose another folder with CLAWLAMA_DATA"
        ) from exc


def disk(facts: HostFacts) -> str:
    free = f"{facts.disk.free / GIB:.1f} GiB free"
    if facts.disk.free < MIN_FREE:
        raise MachineError(
            f"{free} at {facts.disk.path}, {MIN_FREE / GIB:.0f} GiB are needed; "
            "free some, or choose another folder with CLAWLAMA_DATA"
        )
    return free


def ports(settings: Settings) -> list[tuple[str, str, int, str]]:
    """Name, address to bind, port, and the variable that changes it."""
    return [
        ("OpenClaw's port", door_host(settings), settings.openclaw_port, "CLAWLAMA_OPENCLAW_PORT"),
        ("API port", settings.api_host, settings.api_port, "CLAWLAMA_API_PORT"),
    ]


def door_host(settings: Settings) -> str:
    return "0.0.0.0" if settings.openclaw_bind == "lan" else "127.0.0.1"  # noqa: S104 - the user's choice


def inner_port(settings: Settings) -> int:
    """Where OpenClaw itself listens: beside its public port, or anywhere when that is taken."""
    beside = settings.openclaw_port % 65535 + 1
    taken = beside == settings.api_port or bind_problem("127.0.0.1", beside) is not None
    return free_port() if taken else beside


def port_free(host: str, port: int, variable: str) -> str:
    """Waits a moment: a process that is being killed loses the mark by which we know it first, and its ports last."""
    deadline = time.monotonic() + PORT_PATIENCE
    while (problem := bind_problem(host, port)) is not None:
        if problem.errno != errno.EADDRINUSE or time.monotonic() > deadline:
            raise MachineError(
                f"{host}:{port} cannot be used ({problem.strerror}); "
                f"stop what listens there, or set {variable} to another port"
            ) from problem
        time.sleep(0.05)
    return f"{port} is free"


def bind_problem(host: str, port: int) -> OSError | None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as exc:
            return exc
    return None


def free_port() -> int:
    """A port on loopback that nobody listens on right now, below the range that the kernel gives to clients."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
