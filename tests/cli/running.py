"""A running supervisor as commands find it: the real API, and a data folder that names it and that somebody holds."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from typer.testing import CliRunner, Result

from supervisor.cli.main import app
from supervisor.running import Running, write_running
from supervisor.settings.datadir import DataDir
from tests.api.stage import ADAPTER, TOKEN, Stage, over_http


@asynccontextmanager
async def up(folder: Path, **other: Any) -> AsyncIterator[Stage]:
    data = DataDir(folder)
    data.prepare()
    with anyio.fail_after(30):
        async with over_http(folder, **other) as stage:
            running = Running(
                pid=1,
                version="1.2.3",
                model="tiny-chat",
                adapter=ADAPTER,
                api_url=stage.url,
                api_token=TOKEN,
                openclaw_url=stage.url,
                openclaw_token="",
            )
            with data.locked():
                write_running(data, running)
                yield stage


async def clawlama(folder: Path, *arguments: str) -> Result:
    """Beside the event loop, which serves what the command asks."""
    return await anyio.to_thread.run_sync(CliRunner().invoke, app, [*arguments, "--data", str(folder)])
