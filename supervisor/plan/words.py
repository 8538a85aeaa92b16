"""What is said about each decision."""

from supervisor.host.facts import HostFacts
from supervisor.plan.choose import EngineKind
from supervisor.plan.fit import Fit
from supervisor.plan.memory import GIB, kv_bytes
from supervisor.plan.models import BaseModelFacts
from supervisor.settings.settings import Settings


def engine(kind: EngineKind, model: BaseModelFacts) -> str:
    name = "the embedded llama.cpp" if kind == "llama" else "Ollama"
    return f"{name} serves {model.name} ({gib(model.weights)})"


def weights(facts: HostFacts, model: BaseModelFacts, fits: Fit, *, server_here: bool) -> str:
    if not server_here:
        return "on the server's machine"
    if fits.on_gpu == 0:
        return "in memory, no GPU takes part"
    if fits.on_gpu == 1:
        all_of_it = "all on the GPUs" if len(facts.gpus) > 1 else "all on the GPU"
        return "on the GPU, which works in the machine's memory" if fits.ram else all_of_it
    share = f"{int(fits.on_gpu * model.layers)} of {model.layers} layers" if model.layers else f"{fits.on_gpu:.0%}"
    return f"about {share} on the GPU, the rest in memory; a model that fits whole would be several times faster"


def cache(model: BaseModelFacts, fits: Fit) -> str:
    size = gib(kv_bytes(model, fits.parallel * fits.context, fits.kv))
    if fits.kv == "f16":
        return f"f16, {size} when full"
    return f"q8_0 with flash attention, {size} when full: f16 would hold about half the context"


def threads(facts: HostFacts, settings: Settings, fits: Fit, num_thread: int | None, *, server_here: bool) -> str:
    within = " within this container's limit" if facts.container else ""
    why = "as set" if settings.threads else f"physical cores{within}"
    if not server_here and num_thread is None:
        return f"{why}, for lessons; the server takes what it likes"
    if fits.on_gpu == 1:
        return f"{why}; with everything on the GPU they matter to lessons only"
    if num_thread and facts.own_threads and num_thread != facts.own_threads:
        return f"{why}; Ollama is told so, by itself it would take {facts.own_threads}"
    return why


def parallel(settings: Settings, fits: Fit, engine: EngineKind, *, server_here: bool) -> str:
    at_once = "1 request at a time" if fits.parallel == 1 else f"{fits.parallel} requests at the same time"
    if engine == "llama" or "parallel" in settings.model_fields_set:
        return f"{at_once}: as set"
    if not server_here:
        return f"{at_once}: the usual number"
    if fits.parallel > 1:
        return f"{at_once}: the GPU has memory for both contexts"
    return f"{at_once}: " + ("more would shorten the context" if fits.on_gpu == 1 else "a CPU does two no faster")


def gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB // 2 else f"{size / 2**20:.0f} MiB"
