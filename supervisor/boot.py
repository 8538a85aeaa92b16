"""The only place where objects are made and joined. One block: inside it everything is up, after it nothing is left."""

import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from importlib.metadata import version as package_version
from pathlib import Path

import anyio
import structlog

from supervisor.adapters.store import AdapterStore, AdapterVersion, file_record
from supervisor.api.app import create_app
from supervisor.api.context import ApiContext, StackStatus
from supervisor.api.server import serve
from supervisor.api.warmup import WarmUp
from supervisor.errors import ClawlamaError
from supervisor.executors.local import LocalExecutor
from supervisor.first_turn import FirstTurn
from supervisor.gateway.command import OpenClaw, Tokens, prepare_folders
from supervisor.gateway.leftovers import release_dead_lease, remove_lock_files
from supervisor.gateway.validate import validate
from supervisor.host.detect import detect
from supervisor.host.facts import HostFacts
from supervisor.journal.journal import Journal, open_journal
from supervisor.learning.lesson import Base, Teaching, result_of
from supervisor.learning.loop import Learning
from supervisor.learning.proof import prove
from supervisor.learning.queue import JobBuilder
from supervisor.plan.choose import Choice
from supervisor.plan.decide import decide
from supervisor.plan.models import BaseModelFacts, model_facts
from supervisor.plan.plan import Plan
from supervisor.preflight import check, choice_for, runtime
from supervisor.render.render import openclaw_json, workspace_files
from supervisor.render.write import RenderedFile, write_files
from supervisor.running import Running, forget_running, write_running
from supervisor.services.reaper import adopt_orphans, end_descendants, sweep
from supervisor.services.service import Service
from supervisor.services.tree import Tree, supervised
from supervisor.serving import LlamaServing, OllamaServing, Serving
from supervisor.settings.datadir import DataDir
from supervisor.settings.secrets import token
from supervisor.settings.settings import Settings
from supervisor.settings.sources import child_environment
from supervisor.stack import (
    Outputs,
    gateway_config,
    gateway_service,
    llama_engine,
    ollama_engine,
    openclaw,
    outputs_in,
    own_log,
    plugin_folder,
    urls,
)
from supervisor.start import Start, Tell

# Seconds for OpenClaw and the engine. A lesson has 2 before, the API 4 at the same time, and Docker kills after 10.
STOP_WITHIN = 5.0
TELL_EVERY = 10.0  # seconds between two lines about a download

log = structlog.get_logger()


@dataclass(frozen=True)
class Booted:
    """A running ClawLama. ``new_tokens``: they were made just now and nobody has seen them yet."""

    facts: HostFacts
    plan: Plan
    running: Running
    new_tokens: bool
    seconds: float  # from the start to ready
    warm_up: WarmUp


@dataclass(frozen=True)
class Made:
    """What is made before anything is started."""

    settings: Settings
    data: DataDir
    facts: HostFacts
    adapters: AdapterStore
    serving: Serving
    claw: OpenClaw
    plugin: Path
    outputs: Outputs
    running: Running
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
    with data.locked(), one_error(), own_log(settings, data):
        forget_running(data)
        forget_unfinished(data)
        made = await anyio.to_thread.run_sync(make, settings, data, show_output)
        try:
            async with started_up(made, tell) as (plan, warm_up):
                write_running(data, made.running)
                took = anyio.current_time() - started
                yield Booted(made.facts, plan, made.running, made.new_tokens, took, warm_up)
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
    adapters = AdapterStore(data.adapters)
    api_token, api_fresh = token(data.secrets / "api_token", settings.api_token)
    claw_token, claw_fresh = token(data.secrets / "openclaw_token", settings.openclaw_token)
    telegram = settings.telegram_bot_token
    tokens = Tokens(claw_token, api_token, telegram.get_secret_value() if telegram else None)
    outputs = outputs_in(settings, data, tokens, show=show_output)
    around = child_environment()
    choice = choice_for(facts, settings)
    reach = urls(settings)
    return Made(
        settings=settings,
        data=data,
        facts=facts,
        adapters=adapters,
        serving=serving_for(choice, settings, data, facts, adapters, outputs),
        claw=openclaw(settings, data, runtime(settings), tokens, around),
        plugin=plugin_folder(),
        outputs=outputs,
        running=Running(
            pid=int(Path("/proc/self").readlink().name),
            version=package_version("clawlama"),
            model=choice.model,
            adapter=settings.adapter,
            api_url=reach.api,
            api_token=api_token,
            openclaw_url=reach.openclaw,
            openclaw_token=claw_token,
        ),
        new_tokens=api_fresh or claw_fresh,
    )


def serving_for(
    choice: Choice, settings: Settings, data: DataDir, facts: HostFacts, adapters: AdapterStore, outputs: Outputs
) -> Serving:
    around = child_environment()
    if choice.engine == "ollama":
        engine = ollama_engine(settings, choice.model, data, outputs, around)
        return OllamaServing(engine, settings, facts, adapters, data.run / "base")
    model = with_digest(model_facts(choice.model))
    adapters.bind(str(model.digest))
    plan = decide(facts, settings, model)
    version = adapters.current(settings.adapter)
    return LlamaServing(llama_engine(settings, plan, data, version, outputs, around), plan)


def with_digest(model: BaseModelFacts) -> BaseModelFacts:
    return replace(model, digest=f"sha256:{file_record(model.gguf).sha256}")


@asynccontextmanager
async def started_up(made: Made, tell: Tell) -> AsyncIterator[tuple[Plan, WarmUp]]:
    """Journal, API, engine, OpenClaw and the learning loop, started in this order and stopped in reverse."""
    engine, start, warm_up = made.serving.engine, Start(), WarmUp()
    async with engine, open_journal(f"sqlite:///{made.data.journal}") as journal:
        below = [] if engine.service is None else [engine.service]
        needs = tuple(service.name for service in below)
        gateway = gateway_service(made.settings, made.data, made.claw, made.outputs, needs)
        services = [*below, gateway]
        context = api_context(made, journal, warm_up, lambda: start.status(made.serving, services))
        async with (
            api_up(made, context),
            supervised(stop_within=STOP_WITHIN) as tree,
            anyio.create_task_group() as tg,
        ):
            if engine.service is not None:
                tg.start_soon(start_service, tree, engine.service, tell)
            write_running(made.data, made.running.model_copy(update={"ready": False}))
            tell(f"API on {made.running.api_url}; next the model, then OpenClaw (the slow one)")
            plan = await prepared(made, start, tell)
            learning = Learning(teaching(made, plan, journal), timedelta(seconds=made.settings.feedback_patience_s))
            await write_gateway_files(made, plan, tell)
            await start_service(tree, gateway, tell)
            first = FirstTurn(made.running, warm_up, start, tell, partial(restart_gateway, made, gateway, tell))
            plan = await first.take(plan, may_trim=made.settings.lean == "auto")
            start.finished(learning)
            tg.start_soon(learning.run)
            tg.start_soon(made.serving.beside)
            yield plan, warm_up
            tg.cancel_scope.cancel()


def api_context(made: Made, journal: Journal, warm_up: WarmUp, status: Callable[[], StackStatus]) -> ApiContext:
    settings = made.settings
    return ApiContext(
        engine=made.serving.engine,
        journal=journal,
        adapters=made.adapters,
        token=made.running.api_token,
        batch_size=settings.feedback_batch_size,
        lesson_timeout_s=settings.lesson_timeout_s,
        version=made.running.version,
        allowed_base_models=(made.running.model,),
        status=status,
        data=made.data,
        open_metrics=settings.open_metrics,
        feedback_log_dir=settings.feedback_log_dir or made.data.feedback,
        warm_up=warm_up,
    )


@asynccontextmanager
async def api_up(made: Made, context: ApiContext) -> AsyncIterator[None]:
    settings = made.settings
    async with anyio.create_task_group() as tg:
        await tg.start(
            lambda **started: serve(create_app(context), host=settings.api_host, port=settings.api_port, **started)
        )
        yield
        tg.cancel_scope.cancel()


async def start_service(tree: Tree, service: Service, tell: Tell) -> None:
    await tree.start(service)
    tell(f"{service.name} ready after {service.status().ready_after or 0:.1f} s")


async def prepared(made: Made, start: Start, tell: Tell) -> Plan:
    """Wait until the model serves, saying what takes so long."""
    async with anyio.create_task_group() as tg:
        tg.start_soon(tell_doing, made.serving, tell)
        ready = await made.serving.prepare(lambda version: partial(is_live, made, version))
        tg.cancel_scope.cancel()
    plan, start.problem = ready.plan, ready.problem
    for reason in plan.reasons:
        log.debug("plan", decision=reason)
    if plan.lesson_problem:
        log.warning("lessons may not work", problem=plan.lesson_problem)
    return plan


async def is_live(made: Made, version: AdapterVersion) -> bool:
    return (await prove(made.serving.engine, result_of(version))).holds


async def tell_doing(serving: Serving, tell: Tell) -> None:
    """A line whenever what is done changes, and every now and then while its numbers do."""
    told, when = "", -TELL_EVERY
    while True:
        doing, now = serving.doing, anyio.current_time()
        kind = doing.split(" ", 1)[0]
        if doing and doing != told and (kind != told.split(" ", 1)[0] or now - when >= TELL_EVERY):
            tell(doing)
            told, when = doing, now
        await anyio.sleep(0.2)


async def write_gateway_files(made: Made, plan: Plan, tell: Tell) -> None:
    """Render OpenClaw's files and have the real OpenClaw check them, unless it accepted the same ones before."""
    prepare_folders(made.claw)
    release_dead_lease(made.claw)
    config = gateway_config(made.settings, plan, made.data, made.plugin)
    files = [RenderedFile(made.claw.config, openclaw_json(config))]
    files += [
        RenderedFile(made.data.workspace / name, text, theirs=True, mode=0o644)
        for name, text in workspace_files().items()
    ]
    write_files(files, record=made.data.openclaw / "rendered.json")
    tell("OpenClaw's configuration")
    await validate(made.claw, plugin=made.plugin, stamp=made.data.openclaw / "validated", owner=str(made.data.root))


async def restart_gateway(made: Made, gateway: Service, tell: Tell, plan: Plan) -> None:
    await write_gateway_files(made, plan, tell)
    await gateway.restart()


def teaching(made: Made, plan: Plan, journal: Journal) -> Teaching:
    around = {**child_environment(), "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore::FutureWarning"}
    return Teaching(
        journal=journal,
        adapters=made.adapters,
        engine=made.serving.engine,
        executor=LocalExecutor(made.data.lessons, around, made.outputs("lesson"), str(made.data.root)),
        builder=JobBuilder(journal, made.adapters, plan),
        plan=plan,
        base=Base(digest=plan.model.digest or "", now=made.serving.base_now, held=partial(made.serving.held, plan)),
        code_version=made.running.version,
        timeout=made.settings.lesson_timeout_s,
    )
