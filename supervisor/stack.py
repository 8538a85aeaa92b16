"""Our settings, said in the words of the engine and of OpenClaw's gateway."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock

from supervisor.adapters.store import AdapterVersion
from supervisor.engines.engine import Version
from supervisor.engines.llama import LlamaEngine, LlamaSetup
from supervisor.gateway.command import OpenClaw, Tokens
from supervisor.gateway.find import Runtime
from supervisor.gateway.output import readable
from supervisor.log import NAME, also_told, is_json
from supervisor.plan.plan import Plan
from supervisor.redact import redactor
from supervisor.render.render import GatewayConfig, Lean, ModelEntry, Telegram
from supervisor.services.output import LogFile, Output, json_sink, terminal_sink
from supervisor.settings.datadir import DataDir
from supervisor.settings.settings import Settings

GATEWAY = "openclaw"

Outputs = Callable[[str], Output]  # where a service of this name prints


@dataclass(frozen=True)
class Urls:
    """Where people and programs on this machine reach us."""

    api: str
    openclaw: str


def urls(settings: Settings) -> Urls:
    host = "127.0.0.1" if settings.api_host in {"0.0.0.0", "::"} else settings.api_host  # noqa: S104 - compared only
    return Urls(
        api=f"http://{f'[{host}]' if ':' in host else host}:{settings.api_port}",
        openclaw=f"http://127.0.0.1:{settings.openclaw_port}",
    )


def llama_engine(
    settings: Settings,
    plan: Plan,
    data: DataDir,
    version: AdapterVersion | None,
    outputs: Outputs,
    environment: Mapping[str, str],
) -> LlamaEngine:
    setup = LlamaSetup(
        base=plan.model.name,
        adapter=settings.adapter,
        gguf=plan.model.gguf,
        context=plan.context,
        parallel=plan.parallel,
        threads=plan.threads,
        run=data.run,
        drain=settings.drain_timeout_s,
        environment=environment,
        owner=str(data.root),
        sampling=plan.model.sampling,
    )
    serving = Version(version.manifest.version, version.gguf) if version else None
    return LlamaEngine(setup, serving, outputs("engine"))


def gateway_config(settings: Settings, plan: Plan, data: DataDir, plugin: Path) -> GatewayConfig:
    reach = urls(settings)
    native = plan.engine == "ollama"  # Ollama's OpenAI-compatible route loses tool calls
    return GatewayConfig(
        native=native,
        port=settings.openclaw_port,
        provider_url=reach.api if native else f"{reach.api}/v1",
        api_url=reach.api,
        adapter=settings.adapter,
        models=models(settings, plan),
        more_origins=settings.openclaw_origins,
        workspace=data.workspace,
        plugin=plugin,
        log_file=data.logs / "openclaw-own.log",
        log_bytes=settings.log_file_mb * 10**6,
        lean=Lean() if plan.lean else None,
        telegram=Telegram(settings.telegram_allow_from) if settings.telegram_bot_token else None,
        max_concurrent=settings.max_concurrent,
        subagent_concurrent=settings.subagent_concurrent,
    )


def models(settings: Settings, plan: Plan) -> tuple[ModelEntry, ...]:
    """What OpenClaw may choose: the model that learns, first, then those that serve as they are."""
    taught = ModelEntry(
        id=settings.adapter,
        name=f"{plan.model.name} + what you taught it",
        context_window=plan.context,
        max_tokens=plan.max_tokens,
        alias="assistant",
    )
    others = () if plan.engine == "llama" else settings.models
    return (taught, *(replace(taught, id=one, name=one, alias=one) for one in others if one != plan.model.name))


def openclaw(
    settings: Settings, data: DataDir, runtime: Runtime, tokens: Tokens, around: Mapping[str, str]
) -> OpenClaw:
    return OpenClaw(runtime, data.openclaw, data.workspace, tokens, around)


def outputs_in(settings: Settings, data: DataDir, tokens: Tokens, *, show: bool) -> Outputs:
    """Each service's lines go to a file of its own and, when wanted, to the terminal; without secrets and chat text."""
    form = json_sink if is_json(settings.log_format) else terminal_sink
    terminal = form(sys.stderr) if show else None
    without_secrets = redactor(value for value in (tokens.gateway, tokens.api, tokens.telegram) if value)

    def without_chats(text: str) -> str:
        return without_secrets("\n".join(map(readable, text.split("\n"))))

    def output(name: str) -> Output:
        redact = without_chats if name == GATEWAY else without_secrets
        return Output(name, file=log_file(settings, data, name), terminal=terminal, redact=redact)

    return output


@contextmanager
def own_log(settings: Settings, data: DataDir) -> Iterator[None]:
    """Our own events stand beside the services' lines while the block lasts."""
    given = (settings.api_token, settings.openclaw_token, settings.telegram_bot_token)
    redact = redactor(one.get_secret_value() for one in given if one)
    output = Output(NAME, file=log_file(settings, data, NAME), redact=redact)
    one_at_a_time = Lock()  # worker threads log too

    def write(text: str) -> None:
        with one_at_a_time:
            output.feed(f"{text}\n".encode())

    with also_told(write):
        yield
    output.finish()


def log_file(settings: Settings, data: DataDir, name: str) -> LogFile:
    return LogFile(data.logs / f"{name}.log", limit=settings.log_file_mb * 10**6, files=settings.log_files)


def plugin_folder() -> Path:
    """OpenClaw's plugin of ours, in a wheel or in a checkout."""
    package = Path(__file__).resolve().parent
    wheel = package / "_plugin"
    return wheel if wheel.is_dir() else package.parent / "image" / "openclaw-plugin"
