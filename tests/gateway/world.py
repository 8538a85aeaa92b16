"""Makes the world that gateway tests live in: rendered files, a supervised gateway, and what it talks to."""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE
from typing import Any

import anyio

from supervisor.gateway.client import ask
from supervisor.gateway.command import FATAL_EXITS, START_TIMEOUT_S, OpenClaw, Tokens, cli_command, gateway_command
from supervisor.gateway.command import prepare_folders as prepare
from supervisor.gateway.find import Runtime
from supervisor.gateway.leftovers import remove_lock_files
from supervisor.gateway.probe import gateway_started
from supervisor.render.render import GatewayConfig, Lean, ModelEntry, openclaw_json, workspace_files
from supervisor.render.write import RenderedFile, write_files
from supervisor.services.output import Output
from supervisor.services.service import Service
from tests.fakes.learning import FakeLearning, fake_learning
from tests.fakes.openai import FakeOpenAI, fake_openai
from tests.fakes.ports import free_port

PLUGIN = Path(__file__).parents[2] / "image" / "openclaw-plugin"
TOKENS = Tokens(gateway="gateway-token-0123456789abcdef", api="api-token-0123456789abcdef")
MODEL = ModelEntry("openclaw/assistant", "tiny", context_window=8192, max_tokens=512, alias="assistant")


@dataclass(frozen=True)
class World:
    url: str
    openclaw: OpenClaw
    service: Service
    model: FakeOpenAI
    learning: FakeLearning

    async def say(self, text: str, session: str) -> str:
        """One turn through the gateway's HTTP API."""
        with anyio.fail_after(180):
            return "".join([piece async for piece in ask(self.url, TOKENS.gateway, text, session=session)])

    async def cli(self, *arguments: str) -> Any:
        """The JSON that ``openclaw ARGUMENTS`` prints."""
        command = cli_command(self.openclaw, *arguments)
        with anyio.fail_after(120):
            result = await anyio.run_process(command.argv, env=command.env, cwd=command.cwd, stderr=PIPE)
        text = result.stdout.decode()
        return json.loads(text[text.index("\n{") if "\n{" in text else 0 :])


def config_for(openclaw: OpenClaw, *, port: int = 18789, model_url: str, api_url: str) -> GatewayConfig:
    return GatewayConfig(
        port=port,
        provider_url=model_url,
        api_url=api_url,
        adapter="openclaw/assistant",
        models=(MODEL,),
        workspace=openclaw.workspace,
        plugin=PLUGIN,
        log_file=openclaw.folder / "openclaw.log",
        lean=Lean("You are a helpful assistant."),
    )


def openclaw_in(folder: Path, runtime: Runtime, tokens: Tokens = TOKENS) -> OpenClaw:
    return OpenClaw(runtime, folder / "openclaw", folder / "workspace", tokens, dict(os.environ))


def write_config(openclaw: OpenClaw, config: GatewayConfig) -> None:
    prepare(openclaw)
    rules = [RenderedFile(openclaw.workspace / name, text, theirs=True) for name, text in workspace_files().items()]
    write_files(
        [RenderedFile(openclaw.config, openclaw_json(config)), *rules], record=openclaw.folder / "rendered.json"
    )


@asynccontextmanager
async def gateway_world(runtime: Runtime, folder: Path) -> AsyncIterator[World]:
    openclaw, port = openclaw_in(folder, runtime), free_port()
    url = f"http://127.0.0.1:{port}"
    async with fake_openai() as model, fake_learning() as learning:
        write_config(openclaw, config_for(openclaw, port=port, model_url=model.url, api_url=learning.url))
        service = Service(
            "openclaw",
            lambda: gateway_command(openclaw, port),
            gateway_started(url),
            Output("openclaw"),
            start_timeout=START_TIMEOUT_S,
            fatal_exits=FATAL_EXITS,
        )
        async with anyio.create_task_group() as group:
            group.start_soon(service.run)
            with anyio.fail_after(START_TIMEOUT_S):
                await service.wait_ready()
            yield World(url, openclaw, service, model, learning)
            group.cancel_scope.cancel()
        remove_lock_files(openclaw)
