"""OpenClaw as we run it: its files rendered and checked, its process behind our door, both brought up to date."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from supervisor.errors import RenderError, SettingsError
from supervisor.gateway.command import (
    FATAL_EXITS,
    PASSING_TROUBLE,
    START_TIMEOUT_S,
    OpenClaw,
    gateway_command,
    prepare_folders,
)
from supervisor.gateway.leftovers import release_dead_lease
from supervisor.gateway.probe import gateway_started
from supervisor.gateway.validate import validate
from supervisor.plan.plan import Plan
from supervisor.render.render import openclaw_json, workspace_files
from supervisor.render.write import RenderedFile, write_atomically, write_files
from supervisor.services.output import Output
from supervisor.services.readiness import Liveness
from supervisor.services.service import Service
from supervisor.settings.datadir import DataDir
from supervisor.settings.settings import Settings
from supervisor.stack import GATEWAY, gateway_config

OWN_CONFIG = "openclaw.json"  # in the data folder, beside clawlama.toml


@dataclass
class Gateway:
    """``claw`` and ``settings`` are those in force; ``port`` is the one behind the door."""

    claw: OpenClaw
    settings: Settings
    data: DataDir
    plugin: Path
    port: int
    output: Output
    service: Service = field(init=False)

    def __post_init__(self) -> None:
        started = gateway_started(f"http://127.0.0.1:{self.port}")
        self.service = Service(
            GATEWAY,
            lambda: gateway_command(self.claw, self.port),
            started,
            self.output,
            alive=Liveness(started, every=5.0, within=5.0, misses=6),
            start_timeout=START_TIMEOUT_S,
            grace=5.0,
            fatal_exits=FATAL_EXITS,
            excuse=PASSING_TROUBLE,
            owner=str(self.data.root),
        )

    def prepare(self) -> None:
        """Before the first start, while no gateway runs in its folder."""
        prepare_folders(self.claw)
        release_dead_lease(self.claw)

    async def write(self, plan: Plan) -> bool:
        """Write its files and have the real OpenClaw check them, unless it accepted the same ones before.

        Returns whether its config changed. RenderError for what it refuses: then the config is as it was.
        """
        config = self.claw.config
        before = config.read_text(encoding="utf-8") if config.is_file() else None
        workspace = [
            RenderedFile(self.data.workspace / name, text, theirs=True, mode=0o644)
            for name, text in workspace_files().items()
        ]
        files = [RenderedFile(config, self.config_text(plan)), *workspace]
        written = write_files(files, record=self.data.openclaw / "rendered.json")
        stamp = self.data.openclaw / "validated"
        try:
            await validate(self.claw, plugin=self.plugin, stamp=stamp, owner=str(self.data.root))
        except RenderError:
            if before is not None:
                write_atomically(config, before)
            raise
        return config in written

    def config_text(self, plan: Plan) -> str:
        """The user's own openclaw.json, if there is one, else ours."""
        own = self.settings.openclaw_config or self.data.root / OWN_CONFIG
        if self.settings.openclaw_config is None and not own.exists():
            return openclaw_json(gateway_config(self.settings, plan, self.data, self.plugin))
        try:
            return own.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise SettingsError(
                f"{own} cannot be read: {exc}; it is used as OpenClaw's configuration (CLAWLAMA_OPENCLAW_CONFIG)"
            ) from exc

    async def follow(self, settings: Settings, plan: Plan) -> bool:
        """Take these settings from now on; whether a restart is needed for that. Raises what ``write`` raises."""
        old, old_claw = self.settings, self.claw
        telegram = settings.telegram_bot_token
        tokens = replace(self.claw.tokens, telegram=telegram.get_secret_value() if telegram else None)
        self.settings, self.claw = settings, replace(self.claw, tokens=tokens)
        try:
            changed = await self.write(plan)
        except (RenderError, SettingsError):
            self.settings, self.claw = old, old_claw
            raise
        return changed or tokens != old_claw.tokens
