"""How OpenClaw is started: program, environment and folders. Knows nothing of our settings."""

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from supervisor.errors import MachineError
from supervisor.gateway.find import Runtime
from supervisor.services.process import Command

PASSED_ON = (
    "LANG",
    "LC_ALL",
    "TZ",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "http_proxy",
    "https_proxy",
)
"""What OpenClaw may see of the surrounding environment, besides PATH."""

FATAL_EXITS: Mapping[int, str] = {
    78: "OpenClaw refused its configuration or its state folder; its last lines say which key, "
    "or which other gateway holds the folder",
}
"""Exit codes that no restart heals, for ``Service.fatal_exits``."""

PASSING_TROUBLE = re.compile(r"heartbeat did not become ready|maintenance lease \S+ was lost")
"""It exits with 78 too when a machine is so busy that its own helper does not start within five seconds."""

START_TIMEOUT_S = 600.0
"""Measured: 4 to 18 s on two cores, 134 s while six others started on them; a first start compiles its code cache."""


@dataclass(frozen=True)
class Tokens:
    """Secrets that reach OpenClaw through its environment and are in no file of it."""

    gateway: str = field(repr=False)
    api: str = field(repr=False)
    telegram: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class OpenClaw:
    """One installed OpenClaw with its own world: config, state, home, cache and temporary files in one folder."""

    runtime: Runtime
    folder: Path
    workspace: Path
    tokens: Tokens
    surroundings: Mapping[str, str]  # our own environment; only PATH and PASSED_ON are used

    @property
    def config(self) -> Path:
        return self.folder.absolute() / "openclaw.json"

    @property
    def state(self) -> Path:
        return self.folder.absolute() / "state"

    @property
    def temporary(self) -> Path:
        return self.folder.absolute() / "tmp"

    @property
    def cache(self) -> Path:
        return self.folder.absolute() / "cache"

    @property
    def home(self) -> Path:
        return self.folder.absolute() / "home"


def prepare_folders(openclaw: OpenClaw) -> None:
    """Create the folders, private to us, and empty the temporary one. Only while the gateway is down.

    Raises MachineError when the place is not writable.
    """
    try:
        for path in (openclaw.folder, openclaw.state, openclaw.home, openclaw.cache, openclaw.workspace):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.rmtree(openclaw.temporary, ignore_errors=True)
        openclaw.temporary.mkdir(mode=0o700, exist_ok=True)
    except OSError as exc:
        raise MachineError(f"{exc.filename} cannot be created: {exc.strerror}; make it writable for this user") from exc


def gateway_command(openclaw: OpenClaw, port: int) -> Command:
    """The gateway in the foreground, on this port of loopback whatever its config says."""
    return cli_command(openclaw, "gateway", "run", "--port", str(port), "--bind", "loopback")


def cli_command(openclaw: OpenClaw, *arguments: str) -> Command:
    """``openclaw ARGUMENTS`` in the gateway's world."""
    argv = (str(openclaw.runtime.node), str(openclaw.runtime.entry), *arguments)
    return Command(argv, env=environment(openclaw), cwd=openclaw.workspace)


def environment(openclaw: OpenClaw) -> dict[str, str]:
    """The complete environment: what we name here and nothing else."""
    passed = {name: openclaw.surroundings[name] for name in PASSED_ON if name in openclaw.surroundings}
    search_path = openclaw.surroundings.get("PATH", "/usr/local/bin:/usr/bin:/bin")
    tokens = {
        "OPENCLAW_GATEWAY_TOKEN": openclaw.tokens.gateway,
        "CLAWLAMA_API_TOKEN": openclaw.tokens.api,
        "TELEGRAM_BOT_TOKEN": openclaw.tokens.telegram,
    }
    return {
        **passed,
        **{name: value for name, value in tokens.items() if value is not None},
        "PATH": f"{openclaw.runtime.node.parent}:{search_path}",
        "HOME": str(openclaw.home),
        "TMPDIR": str(openclaw.temporary),
        "XDG_CACHE_HOME": str(openclaw.cache),
        "NODE_COMPILE_CACHE": str(openclaw.cache / "node"),
        # Without it OpenClaw's launcher stays as a second process of 60 MB in front of the gateway.
        "OPENCLAW_PACKAGED_COMPILE_CACHE_RESPAWNED": "1",
        "OPENCLAW_STATE_DIR": str(openclaw.state),
        "OPENCLAW_CONFIG_PATH": str(openclaw.config),
        "OPENCLAW_CONFIG_READONLY": "1",
        "OPENCLAW_NO_RESPAWN": "1",
        "OPENCLAW_NO_AUTO_UPDATE": "1",
        "OPENCLAW_DISABLE_BONJOUR": "1",
        "NO_COLOR": "1",
        "NO_PROXY": _no_proxy(openclaw.surroundings),
    }


def _no_proxy(surroundings: Mapping[str, str]) -> str:
    """Our API is on loopback: a proxy for the outside must not swallow it."""
    given = surroundings.get("NO_PROXY") or surroundings.get("no_proxy") or ""
    return ",".join(part for part in (given, "127.0.0.1", "localhost", "::1") if part)
