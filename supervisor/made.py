"""What is made of the settings before anything is started: objects only, and the tokens."""

from dataclasses import dataclass, replace
from importlib.metadata import version as package_version
from pathlib import Path

from supervisor.adapters.store import AdapterStore, file_record
from supervisor.engines.ollama.server import find_ollama
from supervisor.engines.ollama.setup import address
from supervisor.gateway.command import Tokens
from supervisor.host.detect import detect
from supervisor.host.facts import HostFacts
from supervisor.openclaw import Gateway
from supervisor.packs.choose import lessons_on, packs_for, usable
from supervisor.packs.packs import Packs
from supervisor.plan.choose import Choice
from supervisor.plan.decide import decide
from supervisor.plan.models import BaseModelFacts, model_facts
from supervisor.preflight import choice_for, inner_port, runtime
from supervisor.running import Running
from supervisor.serving import LlamaServing, Serving
from supervisor.settings.datadir import DataDir
from supervisor.settings.secrets import token
from supervisor.settings.settings import Settings
from supervisor.settings.sources import child_environment
from supervisor.stack import (
    GATEWAY,
    Outputs,
    llama_engine,
    openclaw,
    outputs_in,
    plugin_folder,
    urls,
)


@dataclass(frozen=True)
class Made:
    """``new_token``: OpenClaw's was made just now and nobody has seen it yet."""

    settings: Settings  # as they were at the start
    data: DataDir
    facts: HostFacts
    adapters: AdapterStore
    serving: Serving
    gateway: Gateway
    packs: Packs
    outputs: Outputs
    running: Running
    new_token: bool


def make(settings: Settings, data: DataDir, show_output: bool) -> Made:
    """Nothing runs yet, and no file is written but the tokens."""
    facts = detect(data.root)
    adapters = AdapterStore(data.adapters)
    api_token, _ = token(data.secrets / "api_token", settings.api_token)
    claw_token, claw_fresh = token(data.secrets / "openclaw_token", settings.openclaw_token)
    telegram = settings.telegram_bot_token
    tokens = Tokens(claw_token, api_token, telegram.get_secret_value() if telegram else None)
    outputs = outputs_in(settings, data, tokens, show=show_output)
    choice = choice_for(facts, settings)
    ollama = own_ollama(settings) if choice.engine == "ollama" else None
    packs = packs_for(settings, facts, ollama=ollama)
    can_use = usable(facts, packs, ollama)
    serving = serving_for(choice, settings, data, can_use, adapters, outputs, packs)
    reach = urls(settings)
    return Made(
        settings=settings,
        data=data,
        facts=facts,
        adapters=adapters,
        serving=serving,
        gateway=gateway_for(settings, data, tokens, outputs),
        packs=packs,
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
        new_token=claw_fresh,
    )


def own_ollama(settings: Settings) -> Path | None:
    """The executable of the server that we would start ourselves."""
    if not address(settings.ollama_host).local:
        return None
    return find_ollama(child_environment().get("PATH"))


def serving_for(
    choice: Choice,
    settings: Settings,
    data: DataDir,
    facts: HostFacts,
    adapters: AdapterStore,
    outputs: Outputs,
    packs: Packs,
) -> Serving:
    around, learns = child_environment(), lessons_on(facts, packs)
    if choice.engine == "ollama":
        from supervisor.ollama_serving import OllamaServing, ollama_engine  # noqa: PLC0415 - see its docstring

        engine = ollama_engine(settings, choice.model, data, outputs, around, packs.ollama)
        return OllamaServing(engine, settings, facts, adapters, data.run / "base", learns)
    model = with_digest(model_facts(choice.model))
    adapters.bind(str(model.digest))
    plan = decide(facts, settings, model, lessons_on=learns)
    version = adapters.current(settings.adapter)
    return LlamaServing(llama_engine(settings, plan, data, version, outputs, around), plan)


def with_digest(model: BaseModelFacts) -> BaseModelFacts:
    return replace(model, digest=f"sha256:{file_record(model.gguf).sha256}")


def gateway_for(settings: Settings, data: DataDir, tokens: Tokens, outputs: Outputs) -> Gateway:
    return Gateway(
        claw=openclaw(settings, data, runtime(settings), tokens, child_environment()),
        settings=settings,
        data=data,
        plugin=plugin_folder(),
        port=inner_port(settings),
        output=outputs(GATEWAY),
    )
