"""The real OpenClaw judges what we render, and leaves nothing behind."""

import hashlib
import os
import signal
from dataclasses import replace
from pathlib import Path

import anyio
import psutil
import pytest

from supervisor.errors import GatewayError, RenderError
from supervisor.gateway.find import Runtime
from supervisor.gateway.probe import readiness
from supervisor.gateway.validate import validate
from supervisor.render.render import GatewayConfig, ModelEntry, Telegram
from tests.gateway.world import MODEL, PLUGIN, TOKENS, World, config_for, gateway_world, openclaw_in, write_config

pytestmark = [pytest.mark.anyio, pytest.mark.openclaw]


def changed(config: GatewayConfig, name: str) -> GatewayConfig:
    second = ModelEntry("tiny", "plain", context_window=40960, max_tokens=4096, alias="plain", reasoning=True)
    return {
        "lean": config,
        "full": replace(config, lean=None),
        "another origin, two models": replace(config, models=(MODEL, second), more_origins=("http://nas:18789",)),
        "telegram": replace(config, telegram=Telegram((777,))),
        "telegram, pairing": replace(config, telegram=Telegram()),
    }[name]


@pytest.mark.parametrize("name", ["lean", "full", "another origin, two models", "telegram", "telegram, pairing"])
async def test_openclaw_accepts_what_we_render(runtime: Runtime, tmp_path: Path, name: str) -> None:
    openclaw = openclaw_in(tmp_path, runtime, replace(TOKENS, telegram="123:abc"))
    config = config_for(openclaw, model_url="http://127.0.0.1:1/v1", api_url="http://127.0.0.1:1")
    write_config(openclaw, changed(config, name))

    assert await validate(openclaw, plugin=PLUGIN, stamp=tmp_path / "stamp")


async def test_openclaw_is_asked_once_for_the_same_config(runtime: Runtime, tmp_path: Path) -> None:
    openclaw = openclaw_in(tmp_path, runtime)
    config = config_for(openclaw, model_url="http://127.0.0.1:1/v1", api_url="http://127.0.0.1:1")
    write_config(openclaw, config)
    await validate(openclaw, plugin=PLUGIN, stamp=tmp_path / "stamp")

    assert not await validate(openclaw, plugin=PLUGIN, stamp=tmp_path / "stamp")
    write_config(openclaw, replace(config, max_concurrent=2))
    assert await validate(openclaw, plugin=PLUGIN, stamp=tmp_path / "stamp")


@pytest.mark.parametrize(
    ("wrong", "named"),
    [('{"gateway": {"bind": "0.0.0.0"}}', r"gateway\.bind"), ('{"tolls": {}}', "tolls"), ("{ torn", "parse failed")],
)
async def test_a_config_that_openclaw_refuses_is_named_key_by_key(
    runtime: Runtime, tmp_path: Path, wrong: str, named: str
) -> None:
    openclaw = openclaw_in(tmp_path, runtime)
    write_config(openclaw, config_for(openclaw, model_url="http://127.0.0.1:1/v1", api_url="http://127.0.0.1:1"))
    openclaw.config.write_text(wrong)

    with pytest.raises(RenderError, match=named):
        await validate(openclaw, plugin=PLUGIN, stamp=tmp_path / "stamp")
    assert not (tmp_path / "stamp").exists()


async def test_a_stopped_gateway_leaves_no_process_and_no_file_outside_its_folder(
    runtime: Runtime, tmp_path: Path
) -> None:
    async with gateway_world(runtime, tmp_path) as world:
        report = await readiness(world.url)
        pid = world.service.status().pid
        assert pid is not None
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        while_up = lock_files_of(world)

    assert report.ready
    assert while_up
    assert not [process for process in family if process.is_running()]
    assert not lock_files_of(world)


async def test_a_turn_that_a_kill_cut_short_is_taken_up_again_in_the_words_of_the_person(
    runtime: Runtime, tmp_path: Path
) -> None:
    async with gateway_world(runtime, tmp_path) as world, anyio.create_task_group() as group:
        first = await world.say("What is tea?", "kept")
        world.model.hold = anyio.Event()
        group.start_soon(cut_short, world, "And coffee?")
        await asked(world, 2)
        killed = world.service.status().pid
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        world.model.hold = None
        await asked(world, 3)

    assert [message["content"] for message in world.model.asked[2].messages][1:] == [
        "What is tea?",
        first,
        "And coffee?",
    ]


async def cut_short(world: World, text: str) -> None:
    with pytest.raises(GatewayError, match="cannot be reached"):
        await world.say(text, "kept")


async def asked(world: World, count: int) -> None:
    with anyio.fail_after(180):
        while len(world.model.asked) < count:  # noqa: ASYNC110 - the gateway announces nothing
            await anyio.sleep(0.05)


def lock_files_of(world: World) -> list[Path]:
    """What OpenClaw keeps in /tmp for the databases of this world."""
    databases = [str(path) for path in world.openclaw.state.rglob("*.sqlite")]
    digests = [hashlib.sha256(path.encode()).hexdigest()[:8] for path in databases]
    return [path for path in Path("/tmp").glob("openclaw*/*") if any(digest in path.name for digest in digests)]
