"""decide(facts, settings, model) -> Plan: pure, every choice with its reason."""

from supervisor.errors import MachineError
from supervisor.host.facts import HostFacts
from supervisor.plan.models import BaseModelFacts
from supervisor.plan.plan import Plan, Recipe
from supervisor.settings.settings import Settings

GIB = 2**30
TINY = 200 * 2**20  # bytes of weights below which a model is a toy that learns in big steps
SMALL = 3 * GIB
TRAINER = 1 * GIB  # torch, transformers and peft in memory before any weight
MIN_CONTEXT = 4096  # OpenClaw's leanest prompt, a little history and a reply

# Measured on tiny-chat (README): one lesson of a few replies carries over to other questions.
TINY_RECIPE = Recipe(
    learning_rate=1e-3, alpha=0.0, updates=8, rounds=1, rollouts=2, kl_reg_weight=0.001, lora_r=16, lora_alpha=32
)
# The published SDPO values (arXiv 2601.20802); nothing better is measured yet for models of this size.
PUBLISHED_RECIPE = Recipe(
    learning_rate=3e-5, alpha=0.5, updates=1, rounds=1, rollouts=1, kl_reg_weight=0.01, lora_r=32, lora_alpha=64
)


def decide(facts: HostFacts, settings: Settings, model: BaseModelFacts) -> Plan:
    """Raises MachineError when this machine cannot run the model, naming what is missing."""
    if "x86" in facts.architecture and "AVX2" not in facts.simd:
        raise MachineError(
            "this CPU has no AVX2, which the embedded llama.cpp needs; use a machine made after about 2013"
        )
    threads = settings.threads or facts.physical_cores
    context, why_context = fit_context(facts, settings, model)
    lesson = TRAINER + 3 * model.weights
    rest = facts.memory_available < model.weights + lesson + settings.parallel * context * model.kv_per_token
    lean = settings.lean == "on" or (settings.lean == "auto" and (model.weights < SMALL or not facts.gpus))
    tiny = model.weights < TINY
    reasons = (
        f"engine llama: the embedded llama.cpp serves {model.name} ({model.weights / 2**20:.0f} MiB)",
        f"threads {threads}: " + ("as set" if settings.threads else "physical cores within this container's limit"),
        f"context {context} tokens: {why_context}",
        "lean prompt " + ("on" if lean else "off") + f": CLAWLAMA_LEAN={settings.lean}",
        "lessons: " + ("engine stops meanwhile, memory is short" if rest else "engine keeps serving meanwhile"),
        "recipe: " + ("for very small models, measured" if tiny else "as published, unmeasured at this size"),
    )
    return Plan(
        engine="llama",
        model=model,
        threads=threads,
        context=context,
        parallel=settings.parallel,
        max_tokens=min(settings.max_tokens, context // 2),
        lean=lean,
        recipe=TINY_RECIPE if tiny else PUBLISHED_RECIPE,
        rest_for_lessons=rest,
        reasons=reasons,
    )


def fit_context(facts: HostFacts, settings: Settings, model: BaseModelFacts) -> tuple[int, str]:
    """The longest context that the model knows, the user asked for and half of the memory left holds."""
    room = int(facts.memory_available - model.weights) // 2 // (settings.parallel * model.kv_per_token)
    wanted = min(settings.context_window, model.max_context)
    if room < min(wanted, MIN_CONTEXT):
        raise MachineError(
            f"{facts.memory_available / GIB:.1f} GiB of memory are free; {model.name} needs "
            f"{(model.weights + 2 * MIN_CONTEXT * settings.parallel * model.kv_per_token) / GIB:.1f} GiB. "
            "Choose a smaller CLAWLAMA_MODEL or give the container more memory"
        )
    if room < wanted:
        return room, f"what the free memory holds ({wanted} were wanted)"
    return wanted, "as set" if settings.context_window <= model.max_context else "the longest the model knows"
