"""Settings read again while everything runs: what reads them follows, the rest is named."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import anyio
import structlog

from supervisor.api.control import Reloaded
from supervisor.log import set_level
from supervisor.settings.settings import Settings
from supervisor.settings.sources import names_of

FOLLOWED: Final = frozenset(
    {
        "log_level",
        "max_concurrent",
        "openclaw_config",
        "openclaw_origins",
        "subagent_concurrent",
        "telegram_allow_from",
        "telegram_bot_token",
    }
)
"""Settings that OpenClaw's files, its environment or our log follow at once. The engine, ports and the data folder are
part of how everything was started."""

log: structlog.stdlib.BoundLogger = structlog.get_logger()


def changed(old: Settings, new: Settings) -> tuple[str, ...]:
    """Fields that differ, in the order of the settings."""
    return tuple(name for name in Settings.model_fields if getattr(old, name) != getattr(new, name))


def in_force(old: Settings, new: Settings) -> Settings:
    """The old settings with what can follow taken from the new ones."""
    return old.model_copy(update={name: getattr(new, name) for name in FOLLOWED})


@dataclass
class Reloading:
    """``read`` gets the settings from where they came from at the start; ``apply`` says which services it restarted."""

    settings: Settings  # in force
    read: Callable[[], Settings]
    apply: Callable[[Settings], Awaitable[tuple[str, ...]]]
    _one: anyio.Lock = field(default_factory=anyio.Lock, init=False)

    async def reload(self) -> Reloaded:
        """Follow what was changed. SettingsError or RenderError, and everything stays as it was, when it is wrong."""
        async with self._one:
            return await self._reload()

    async def _reload(self) -> Reloaded:
        new = await anyio.to_thread.run_sync(self.read)
        differ = changed(self.settings, new)
        settings = in_force(self.settings, new)
        restarted = await self.apply(settings)  # also when no setting differs: OpenClaw's own file may
        self.settings = settings
        if "log_level" in differ:
            set_level(settings.log_level)
        done = Reloaded(
            changed=named(differ),
            restarted=restarted,
            needs_restart=named(tuple(name for name in differ if name not in FOLLOWED)),
        )
        log.info("settings read again", **done.model_dump())
        return done


def named(fields: tuple[str, ...]) -> tuple[str, ...]:
    """As people write them: CLAWLAMA_LOG_LEVEL."""
    return tuple(names_of(Settings.model_fields[field])[0] for field in fields)
