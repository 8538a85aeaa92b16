"""decide(facts, settings, model) -> Plan: pure, every choice with its reason."""

from dataclasses import dataclass
from typing import Literal

from supervisor.errors import MachineError
from supervisor.host.facts import HostFacts
from supervisor.plan import words
from supervisor.plan.choose import EngineKind, choose
from supervisor.plan.fit import Fit, elsewhere, fit
from supervisor.plan.memory import GIB, kv_bytes, least_for_lesson, lesson, ram, vram
from supervisor.plan.models import BaseModelFacts
from supervisor.plan.plan import Plan, Recipe
from supervisor.plan.prompt import plan_prompt
from supervisor.settings.settings import Settings

Device = Literal["cpu", "gpu"]

TINY = 200 * 2**20  # bytes of weights below which a model is a toy that learns in big steps

# Measured on tiny-chat (bench/RESULTS.md): one lesson of a few replies carries over to other questions, and repeating
# some of it keeps a later lesson of vaguer words from undoing that.
TINY_RECIPE = Recipe(
    learning_rate=1e-3,
    alpha=0.0,
    updates=8,
    rounds=1,
    rollouts=2,
    kl_reg_weight=0.001,
    lora_r=16,
    lora_alpha=32,
    replay=4,
)
# The published SDPO values (arXiv 2601.20802); nothing better is measured yet for models of this size.
PUBLISHED_RECIPE = Recipe(
    learning_rate=3e-5,
    alpha=0.5,
    updates=1,
    rounds=1,
    rollouts=1,
    kl_reg_weight=0.01,
    lora_r=32,
    lora_alpha=64,
    replay=0,
)


def decide(
    facts: HostFacts,
    settings: Settings,
    model: BaseModelFacts,
    *,
    prompt_tokens: int | None = None,
    lessons_on: Device = "cpu",
    server_here: bool = True,
) -> Plan:
    """``prompt_tokens``: what OpenClaw really sends, once somebody has counted it. ``server_here``: Ollama runs on
    this machine. What an engine holds already must be counted as free: ``memory.given_back``.

    Raises MachineError when this machine cannot run the model, naming what is missing.
    """
    engine = choose(settings, recommended=model.name).engine
    check_processor(facts, engine)
    fits = fit(facts, settings, model, engine) if server_here else elsewhere(settings, model)
    slow = server_here and fits.on_gpu < 0.5
    prompt = plan_prompt(settings, model, fits.context, slow=slow, measured=prompt_tokens)
    threads = settings.threads or facts.physical_cores
    num_thread = threads_to_tell(facts, settings, fits, engine, server_here=server_here)
    lessons = plan_lessons(facts, model, fits, lessons_on)
    tiny = model.weights < TINY
    return Plan(
        engine=engine,
        model=model,
        threads=threads,
        num_thread=num_thread,
        context=fits.context,
        parallel=fits.parallel,
        kv_cache=fits.kv,
        flash_attention=True if fits.kv == "q8_0" else None,
        on_gpu=fits.on_gpu,
        keep_alive=settings.ollama_keep_alive,
        max_tokens=min(settings.max_tokens, fits.context // 2),
        lean=prompt.lean,
        prompt_tokens=prompt.tokens,
        recipe=TINY_RECIPE if tiny else PUBLISHED_RECIPE,
        rest_for_lessons=lessons.rest,
        lesson_problem=lessons.problem,
        reasons=(
            f"engine: {words.engine(engine, model)}",
            f"weights: {words.weights(facts, model, fits, server_here=server_here)}",
            f"context: {fits.context} tokens: {fits.why}",
            f"KV cache: {words.cache(model, fits)}",
            f"threads: {threads}: {words.threads(facts, settings, fits, num_thread, server_here=server_here)}",
            f"parallel: {words.parallel(settings, fits, engine, server_here=server_here)}",
            f"prompt: {prompt.explained}",
            *([f"keep alive: {settings.ollama_keep_alive} in memory after a request"] if engine == "ollama" else []),
            f"lessons: {lessons.explained}",
            "recipe: " + ("for very small models, measured" if tiny else "as published, unmeasured at this size"),
        ),
    )


def check_processor(facts: HostFacts, engine: EngineKind) -> None:
    if engine == "llama" and "x86" in facts.architecture and "AVX2" not in facts.simd:
        raise MachineError(
            "this CPU has no AVX2, which the embedded llama.cpp needs; use CLAWLAMA_ENGINE=ollama, "
            "or a machine made after about 2013"
        )


def threads_to_tell(
    facts: HostFacts, settings: Settings, fits: Fit, engine: EngineKind, *, server_here: bool
) -> int | None:
    """Ollama reloads a model whose ``num_thread`` changes, so it is told only what it would not take by itself.

    By itself it counts the cores of the whole machine and no limit of ours. With everything on the GPU it is all one.
    """
    if engine != "ollama" or settings.threads:
        return settings.threads if engine == "ollama" else None
    if not server_here or fits.on_gpu == 1 or facts.physical_cores == facts.own_threads:
        return None
    return facts.physical_cores


@dataclass(frozen=True)
class Lessons:
    rest: bool  # the engine stops meanwhile
    problem: str | None  # why none can be expected to go well
    explained: str


def plan_lessons(facts: HostFacts, model: BaseModelFacts, fits: Fit, on: Device) -> Lessons:
    """By the memory of the device that lessons run on."""
    if model.lessons:
        return Lessons(rest=False, problem=model.lessons, explained=f"none: {model.lessons}")
    whole, least = lesson(model), least_for_lesson(model)
    have, taken = (ram(facts), fits.ram) if on == "cpu" else (vram(facts), on_gpus(model, fits))
    if least > have:
        said = f"{least / GIB:.1f} GiB on the {on.upper()}"
        problem = f"a lesson needs {said}, {have / GIB:.1f} can be had; free some, or choose a smaller model"
        return Lessons(rest=taken > 0, problem=problem, explained=f"may fail: {problem}")
    rest = least > have - taken
    room = have if rest else have - taken
    packed = whole > room
    said = f"{(least if packed else whole) / GIB:.1f} GiB on the {on.upper()}"
    how = ", with weights unpacked as they are needed" if packed else ""
    meanwhile = "the engine rests meanwhile" if rest else "the engine serves on meanwhile"
    return Lessons(rest, None, f"need {said}{how}; {meanwhile}")


def on_gpus(model: BaseModelFacts, fits: Fit) -> int:
    """Bytes that serving takes of the GPUs' own memory."""
    return int(fits.on_gpu * (model.weights + kv_bytes(model, fits.parallel * fits.context, fits.kv)))
