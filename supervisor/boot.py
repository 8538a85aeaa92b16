"""The only place where objects are made and joined. One block: inside it everything is up, after it nothing is left."""

import shutil
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version as package_version
from pathlib import Path

import anyio
import structlog

from supervisor.adapters.store import AdapterStore, AdapterVersion, file_record
from supervisor.api.app import create_app
from supervisor.api.context import ApiContext, Phase, StackStatus
from supervisor.api.server import serve
from supervisor.engines.llama import LlamaEngine
from supervisor.errors import ClawlamaError, SettingsError
from supervisor.executors.local import LocalExecutor
from supervisor.gateway.command import OpenClaw, Tokens, prepare_folders
from supervisor.gateway.leftovers import release_dead_lease, remove_lock_files
from supervisor.gateway.output import readable
from supervisor.gateway.validate import validate
from supervisor.host.detect import detect
from supervisor.host.facts import HostFacts
from supervisor.journal.journal import Journal, open_journal
from supervisor.learning.lesson import Teaching
from supervisor.learning.loop import Learning
from supervisor.learning.queue import JobBuilder
from supervisor.plan.plan import Plan
from supervisor.preflight import check, plan_for, runtime
from supervisor.render.render import openclaw_json, workspace_files
from supervisor.render.write import RenderedFile, write_files
from supervisor.running import Running, forget_running, write_running
from supervisor.services.output import LogFile, Output, terminal_sink
from supervisor.services.reaper import adopt_orphans, end_descendants, sweep
from supervisor.services.service import Service
from supervisor.services.tree import Tree
from supervisor.settings.datadir import DataDir
from supervisor.settings.secrets import token
from supervisor.settings.settings import Settings
from supervisor.settings.sources import child_environment
from supervisor.stack import GATEWAY, Outputs, gateway_config, gateway_service, llama_engine, openclaw, urls

STOP_WITHIN = 5.5  # seconds for the processes; the API then has 4, and Docker kills after 10

log = structlog.get_logger()

Tell = Callable[[str], None]  # one line for a person who watches us start


@dataclass(frozen=True)
class Booted:
    """A running ClawLama. ``new_tokens``: they were made just now and nobody has seen them yet."""

    facts: HostFacts
    plan: Plan
    running: Running
    new_tokens: bool
    seconds: float  # from the start to ready


@dataclass(frozen=True)
class Made:
    """What is made before anything is started."""

    settings: Settings
    data: DataDir
    facts: HostFacts
    plan: Plan
    adapters: AdapterStore
    engine: LlamaEngine
    claw: OpenClaw
    plugin: Path
    outputs: Outputs
    running: Running
    base_digest: str
    new_tokens: bool


@asynccontextmanager
async def booted(settings: Settings, tell: Tell, *, show_output: bool = True) -> AsyncIterator[Booted]:
    """Everything up and ready inside the block, nothing left after it, cancelled or not.

    Raises what kept it from starting, and inside the block what could not be kept up, as one ClawlamaError.
    """
    started = anyio.current_time()
    data = DataDir(settings.data.absolute())
    adopt_orphans()
    await anyio.to_thread.run_sync(end_leftovers, data)  # first: they may hold our ports
    await anyio.to_thread.run_sync(check, settings)
    data.prepare()
    with data.locked(), one_error():
        forget_running(data)
        forget_unfinished(data)
        made = await anyio.to_thread.run_sync(make, settings, data, show_output)
        try:
            async with started_up(made, tell):
                write_running(data, made.running)
                took = anyio.current_time() - started
                yield Booted(made.facts, made.plan, made.running, made.new_tokens, took)
        finally:
            forget_running(data)
            await end_descendants()
            remove_lock_files(made.claw)


def end_leftovers(data: DataDir) -> None:
    """Kill what a supervisor that died left running in this folder. AlreadyRunning while one lives there."""
    if not data.run.is_dir():
        return
    with data.locked():
        if swept := sweep(str(data.root)):
            log.warning("ended what an earlier supervisor left behind", pids=swept)


def forget_unfinished(data: DataDir) -> None:
    """Remove what a lesson left that was cut short by our death: its job, and the version in the making."""
    for job in data.lessons.iterdir():
        shutil.rmtree(job, ignore_errors=True)
    AdapterStore(data.adapters).drop_unfinished()


@contextmanager
def one_error() -> Iterator[None]:
    """Task groups raise groups; people want the one thing that went wrong."""
    try:
        yield
    except BaseExceptionGroup as group:
        if (error := only_error(group)) is None:
            raise
        raise error from group


def only_error(group: BaseExceptionGroup[BaseException]) -> ClawlamaError | None:
    """The first expected error of a group that holds nothing unexpected."""
    found: ClawlamaError | None = None
    for error in group.exceptions:
        inner = only_error(error) if isinstance(error, BaseExceptionGroup) else error
        if not isinstance(inner, ClawlamaError):
            return None
        found = found or inner
    return found


def make(settings: Settings, data: DataDir, show_output: bool) -> Made:
    """Objects only: nothing runs yet, and no file is written but the tokens."""
    facts = detect(data.root)
    plan = plan_for(facts, settings)
    adapters = AdapterStore(data.adapters)
    base_digest = f"sha256:{file_record(plan.model.gguf).sha256}"
    api_token, api_fresh = token(data.secrets / "api_token", settings.api_token)
    claw_token, claw_fresh = token(data.secrets / "openclaw_token", settings.openclaw_token)
    telegram = settings.telegram_bot_token
    tokens = Tokens(claw_token, api_token, telegram.get_secret_value() if telegram else None)
    outputs = outputs_in(data, tokens, show=show_output)
    around = child_environment()
    reach = urls(settings)
    return Made(
        settings=settings,
        data=data,
        facts=facts,
        plan=plan,
        adapters=adapters,
        engine=llama_engine(settings, plan, data, usable(adapters, settings.adapter, base_digest), outputs, around),
        claw=openclaw(settings, data, runtime(settings), tokens, around),
        plugin=plugin_folder(),
        outputs=outputs,
        running=Running(
            pid=int(Path("/proc/self").readlink().name),
            version=package_version("clawlama"),
            model=plan.model.name,
            adapter=settings.adapter,
            api_url=reach.api,
            api_token=api_token,
            openclaw_url=reach.openclaw,
            openclaw_token=claw_token,
        ),
        base_digest=base_digest,
        new_tokens=api_fresh or claw_fresh,
    )


@asynccontextmanager
async def started_up(made: Made, tell: Tell) -> AsyncIterator[None]:
    """Journal, API, engine, OpenClaw and the learning loop, started in this order and stopped in reverse."""
    settings, data, plan = made.settings, made.data, made.plan
    await write_gateway_files(made, tell)
    async with made.engine, open_journal(f"sqlite:///{data.journal}") as journal:
        learning = Learning(teaching(made, journal), timedelta(seconds=settings.feedback_patience_s))
        tree = Tree(
            [made.engine.service, gateway_service(settings, data, made.claw, made.outputs)], stop_within=STOP_WITHIN
        )
        context = ApiContext(
            engine=made.engine,
            journal=journal,
            adapters=made.adapters,
            token=made.running.api_token,
            batch_size=settings.feedback_batch_size,
            lesson_timeout_s=settings.lesson_timeout_s,
            version=made.running.version,
            allowed_base_models=(plan.model.name,),
            status=lambda: status(tree, learning),
            feedback_log_dir=settings.feedback_log_dir or data.feedback,
        )
        async with anyio.create_task_group() as outer:
            await outer.start(
                lambda **started: serve(create_app(context), host=settings.api_host, port=settings.api_port, **started)
            )
            tell(f"API on {made.running.api_url}; next the model, then OpenClaw (the slow one)")
            async with anyio.create_task_group() as inner:
                for service in tree.services:
                    inner.start_soon(tell_ready, service, tell)
                await inner.start(tree.run)
                inner.start_soon(learning.run)
                yield
                inner.cancel_scope.cancel()
            outer.cancel_scope.cancel()


async def write_gateway_files(made: Made, tell: Tell) -> None:
    """Render OpenClaw's files and have the real OpenClaw check them, unless it accepted the same ones before."""
    prepare_folders(made.claw)
    release_dead_lease(made.claw)
    config = gateway_config(made.settings, made.plan, made.data, made.plugin)
    files = [RenderedFile(made.claw.config, openclaw_json(config))]
    files += [
        RenderedFile(made.data.workspace / name, text, theirs=True, mode=0o644)
        for name, text in workspace_files().items()
    ]
    write_files(files, record=made.data.openclaw / "rendered.json")
    tell("OpenClaw's configuration")
    await validate(made.claw, plugin=made.plugin, stamp=made.data.openclaw / "validated", owner=str(made.data.root))


def teaching(made: Made, journal: Journal) -> Teaching:
    around = {**child_environment(), "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore::FutureWarning"}
    return Teaching(
        journal=journal,
        adapters=made.adapters,
        engine=made.engine,
        executor=LocalExecutor(made.data.lessons, around, made.outputs("lesson"), str(made.data.root)),
        builder=JobBuilder(journal, made.adapters, made.plan),
        plan=made.plan,
        base_digest=made.base_digest,
        code_version=made.running.version,
        timeout=made.settings.lesson_timeout_s,
    )


def status(tree: Tree, learning: Learning) -> StackStatus:
    services = tree.status()
    troubled = [service for service in services if service.state in {"backing_off", "failed", "stopped"}]
    phase: Phase = "ready"
    if troubled:
        phase = "degraded"
    elif learning.teaching_now is not None:
        phase = "learning"
    elif any(service.state != "ready" for service in services):
        phase = "starting"
    reason = "; ".join(f"{service.name} is {service.state.replace('_', ' ')}" for service in troubled)
    return StackStatus(phase=phase, reason=reason, services=services)


async def tell_ready(service: Service, tell: Tell) -> None:
    await service.wait_ready()
    tell(f"{service.name} ready after {service.status().ready_after or 0:.1f} s")


def usable(adapters: AdapterStore, adapter: str, base_digest: str) -> AdapterVersion | None:
    """The version to start with. SettingsError when it was learned on another base model."""
    current = adapters.current(adapter)
    if current is not None and current.manifest.base_digest != base_digest:
        raise SettingsError(
            f"{adapter} {current.manifest.version} was learned on {current.manifest.base_model} "
            f"({current.manifest.base_digest[:19]}…), not on the model that is configured; "
            "set CLAWLAMA_MODEL back, or learn under another name with CLAWLAMA_ADAPTER"
        )
    return current


def outputs_in(data: DataDir, tokens: Tokens, *, show: bool) -> Outputs:
    """Each service's lines go to a file of its own and, when wanted, to the terminal; without tokens and chat text."""
    secrets = [value for value in (tokens.gateway, tokens.api, tokens.telegram) if value]
    terminal = terminal_sink(sys.stderr) if show else None

    def without_secrets(text: str) -> str:
        for secret in secrets:
            text = text.replace(secret, "[token]")
        return text

    def without_chats(text: str) -> str:
        return without_secrets("\n".join(map(readable, text.split("\n"))))

    def output(name: str) -> Output:
        redact = without_chats if name == GATEWAY else without_secrets
        return Output(name, file=LogFile(data.logs / f"{name}.log"), terminal=terminal, redact=redact)

    return output


def plugin_folder() -> Path:
    """OpenClaw's plugin of ours, in a wheel or in a checkout."""
    package = Path(__file__).resolve().parent
    wheel = package / "_plugin"
    return wheel if wheel.is_dir() else package.parent / "image" / "openclaw-plugin"
