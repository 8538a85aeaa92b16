from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from supervisor.errors import SettingsError
from supervisor.reload import FOLLOWED, Reloading, changed, in_force
from supervisor.settings.settings import Settings
from supervisor.settings.sources import load_settings

pytestmark = pytest.mark.anyio
OLD = Settings(data=Path("/nowhere"))


class Gateway:
    """Stands for what reads OpenClaw's settings: restarted when the number of its runs changes."""

    def __init__(self) -> None:
        self.runs = OLD.max_concurrent
        self.fails = False

    async def apply(self, settings: Settings) -> tuple[str, ...]:
        if self.fails:
            raise SettingsError("it is refused")
        if settings.max_concurrent == self.runs:
            return ()
        self.runs = settings.max_concurrent
        return ("openclaw",)


def reloading(gateway: Gateway, read: Callable[[], Settings]) -> Reloading:
    return Reloading(OLD, read, gateway.apply)


def with_(**values: Any) -> Callable[[], Settings]:
    return lambda: OLD.model_copy(update=values)


def test_what_differs_is_named_in_the_order_of_the_settings() -> None:
    new = OLD.model_copy(update={"log_level": "debug", "model": "qwen3:8b"})

    assert changed(OLD, new) == ("model", "log_level")
    assert changed(OLD, OLD) == ()


def test_only_what_can_be_followed_is_taken_over() -> None:
    new = OLD.model_copy(update={"max_concurrent": 9, "api_port": 9999, "model": "qwen3:8b"})

    assert changed(OLD, in_force(OLD, new)) == ("max_concurrent",)


def test_every_followed_setting_exists() -> None:
    assert set(Settings.model_fields) >= FOLLOWED


async def test_a_changed_setting_restarts_what_read_it_and_nothing_else() -> None:
    gateway = Gateway()
    settings = reloading(gateway, with_(max_concurrent=9))

    first = await settings.reload()
    second = await settings.reload()

    assert (first.changed, first.restarted, first.needs_restart) == (("CLAWLAMA_MAX_CONCURRENT",), ("openclaw",), ())
    assert (second.changed, second.restarted, second.needs_restart) == ((), (), ())


async def test_what_only_a_whole_restart_applies_is_named_every_time() -> None:
    settings = reloading(Gateway(), with_(model="qwen3:8b"))

    for _ in range(2):
        done = await settings.reload()
        assert (done.changed, done.restarted, done.needs_restart) == (("CLAWLAMA_MODEL",), (), ("CLAWLAMA_MODEL",))


async def test_a_wrong_file_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "clawlama.toml").write_text("max_concurrent = 0\n")
    gateway = Gateway()
    settings = reloading(gateway, lambda: load_settings({}, data=tmp_path))

    with pytest.raises(SettingsError, match="CLAWLAMA_MAX_CONCURRENT=0"):
        await settings.reload()

    assert (gateway.runs, settings.settings) == (OLD.max_concurrent, OLD)


async def test_what_is_refused_stays_to_be_done() -> None:
    gateway = Gateway()
    gateway.fails = True
    settings = reloading(gateway, with_(max_concurrent=9))
    with pytest.raises(SettingsError):
        await settings.reload()

    gateway.fails = False
    with anyio.fail_after(5):
        assert (await settings.reload()).restarted == ("openclaw",)
