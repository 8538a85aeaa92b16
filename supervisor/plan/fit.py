"""How much context fits, where, and in which form: the part of the plan that memory decides."""

from dataclasses import dataclass

from supervisor.errors import MachineError
from supervisor.host.facts import HostFacts
from supervisor.plan.choose import EngineKind
from supervisor.plan.memory import (
    GIB,
    KV_SIZE,
    OPENCLAW,
    OPENCLAW_LEAST,
    RUNTIME,
    KvCache,
    kv_bytes,
    ram,
    vram,
)
from supervisor.plan.models import BaseModelFacts
from supervisor.settings.settings import Settings

MIN_CONTEXT = 4096  # OpenClaw's leanest prompt, a little history and a reply
COMFORT = 32768  # tokens; with less for each, requests come one at a time, and more no CPU reads while anybody waits
ENOUGH = 12288  # OpenClaw's prompt as we configure it, some turns and a reply; with less, the cache may be coarser
FLASH = (7, 0)  # compute capability from which llama.cpp's flash attention works; 7.2 is an exception to it
STEP = 256  # llama.cpp rounds a context up to a multiple of this


@dataclass(frozen=True)
class Fit:
    context: int  # tokens one request may use
    why: str
    parallel: int
    kv: KvCache
    on_gpu: float  # share of weights and cache on the GPUs, 0 to 1
    ram: int  # bytes of the machine's memory that serving takes


@dataclass(frozen=True)
class Room:
    """Bytes for weights and cache on the GPUs, and of them and the memory together for the cache alone."""

    gpu: int
    cache: int
    quick: bool  # the model is whole on a GPU


@dataclass(frozen=True)
class Form:
    """One way to use the cache's room."""

    parallel: int
    kv: KvCache
    enough: int  # tokens for each request from which nothing else is tried


def fit(facts: HostFacts, settings: Settings, model: BaseModelFacts, engine: EngineKind) -> Fit:
    """The longest context that model, user and memory allow. Raises MachineError when even a short one does not fit.

    OpenClaw gets ample room, unless nothing would fit beside that.
    """
    least = shortest(settings, model)
    found = longest(facts, settings, model, engine)
    if found.context < least:
        squeezed = facts.model_copy(update={"memory_available": facts.memory_available + OPENCLAW - OPENCLAW_LEAST})
        found = longest(squeezed, settings, model, engine)
    if found.context < least:
        raise MachineError(too_small(facts, model, engine, found.parallel * kv_bytes(model, least, found.kv)))
    return found


def longest(facts: HostFacts, settings: Settings, model: BaseModelFacts, engine: EngineKind) -> Fit:
    """The same, however short; 0 tokens where not even the weights fit."""
    room = room_for_cache(facts, settings, model, engine)
    wanted, why = wish(settings, model, quick=room.quick)
    forms = preferences(facts, settings, engine, quick=room.quick)
    lengths = [(held(room.cache, model, form), form) for form in forms]
    enough = (one for one in lengths if one[0] >= min(wanted, one[1].enough))
    holds, form = next(enough, max(lengths, key=lambda one: one[0]))
    parallel, kv = form.parallel, form.kv
    if holds < wanted:
        why = f"what the {'GPU' if room.quick else 'free'} memory holds ({wanted} were wanted)"
    context = min(wanted, holds)
    needed = model.weights + kv_bytes(model, parallel * context, kv)
    if room.quick and not room.gpu:  # a GPU that works in the machine's memory
        return Fit(context, why, parallel, kv, on_gpu=1.0, ram=needed + RUNTIME)
    share = min(1.0, room.gpu / needed)
    return Fit(context, why, parallel, kv, on_gpu=share, ram=int((1 - share) * (needed + RUNTIME)))


def elsewhere(settings: Settings, model: BaseModelFacts) -> Fit:
    """For a server on another machine, whose memory nobody knows: what the user wants, or a length that is usual."""
    wanted, why = wish(settings, model, quick=False)
    return Fit(wanted, f"{why}; the server's memory is not known", settings.parallel, "f16", on_gpu=0.0, ram=0)


def wish(settings: Settings, model: BaseModelFacts, *, quick: bool) -> tuple[int, str]:
    """Tokens wanted, whatever the memory, and why."""
    wanted = min(settings.context_window, model.max_context)
    if not quick and "context_window" not in settings.model_fields_set and wanted > COMFORT:
        return COMFORT, "a long chat; a CPU would read more than that for many minutes"
    return wanted, "as set" if settings.context_window <= model.max_context else "the longest the model knows"


def shortest(settings: Settings, model: BaseModelFacts) -> int:
    return min(settings.context_window, model.max_context, MIN_CONTEXT)


def room_for_cache(facts: HostFacts, settings: Settings, model: BaseModelFacts, engine: EngineKind) -> Room:
    """All that the weights leave on the GPUs if the model fits there, else half of what they leave in all.

    Half, because lessons, file cache and everything else on the machine live in the other half; but no less than a
    short context needs.
    """
    least = kv_bytes(model, shortest(settings, model), "f16")
    gpu = vram(facts) if engine == "ollama" else 0
    if gpu - model.weights >= least:
        return Room(gpu, gpu - model.weights, quick=True)
    left = max(0, ram(facts) - RUNTIME + gpu - model.weights)
    shared = engine == "ollama" and not gpu and any(one.shared for one in facts.gpus)
    return Room(gpu, max(left // 2, min(left, least)), quick=shared)


def preferences(facts: HostFacts, settings: Settings, engine: EngineKind, *, quick: bool) -> list[Form]:
    """Best first.

    One request at a time on a CPU: two would each run at half the speed, with half the context. f16 first: a coarser
    cache moves the probabilities by which an adapter proves that it is live.
    """
    forms = [Form(settings.parallel, "f16", ENOUGH)]
    if engine == "ollama" and "parallel" not in settings.model_fields_set:
        several = [Form(settings.parallel, "f16", COMFORT)] if quick else []
        forms = [*several, Form(1, "f16", ENOUGH)]
    if engine == "ollama" and flash_attention_works(facts):
        forms.append(Form(forms[-1].parallel, "q8_0", 0))
    return forms


def flash_attention_works(facts: HostFacts) -> bool:
    """On every CPU; on GPUs that are new enough. A cache of q8_0 needs it."""
    versions = [tuple(map(int, gpu.compute.split("."))) for gpu in facts.gpus if gpu.compute]
    return all(version >= FLASH and version != (7, 2) for version in versions)


def held(room: int, model: BaseModelFacts, form: Form) -> int:
    tokens = int(room / (form.parallel * max(1, model.kv_per_token) * KV_SIZE[form.kv]))
    return tokens - tokens % STEP


def too_small(facts: HostFacts, model: BaseModelFacts, engine: EngineKind, cache: int) -> str:
    free = f"{facts.memory_available / GIB:.1f} GiB of memory are free"
    if engine == "ollama" and (gpu := vram(facts)):
        free += f" and {gpu / GIB:.1f} GiB on the GPU"
    return (
        f"{free}; {model.name} needs {(model.weights + 2 * cache + RUNTIME) / GIB:.1f} GiB and OpenClaw "
        f"{OPENCLAW_LEAST / GIB:.1f}. Choose a smaller CLAWLAMA_MODEL or give the container more memory"
    )
