"""A plan, or why there is none, as lines that a person can read; never wider than 100 columns."""

import textwrap

from supervisor.errors import ClawlamaError
from supervisor.host.facts import Gpu, HostFacts
from supervisor.plan.catalog import CATALOG, GB, NOT_HERE
from supervisor.plan.memory import GIB, lesson
from supervisor.plan.plan import Plan
from supervisor.plan.recommend import recommended
from supervisor.plan.table import download, lessons

WIDTH = 100
TOPIC = 14  # columns


def explain(facts: HostFacts, plan: Plan | ClawlamaError) -> str:
    lines = [machine_lines(facts), decisions(facts, plan), advice_lines(facts, plan)]
    pairs = [tuple(line.split(": ", 1)) for group in lines for line in group]
    return "\n".join(entry(topic, said) for topic, said in pairs)


def entry(topic: str, said: str) -> str:
    return textwrap.fill(
        said,
        WIDTH,
        initial_indent=topic.ljust(TOPIC),
        subsequent_indent=" " * TOPIC,
        break_long_words=False,
        break_on_hyphens=False,
    )


def machine_lines(facts: HostFacts) -> list[str]:
    lines = [f"machine: {processor(facts)}", f"memory: {memory(facts)}"]
    lines += [f"GPU: {graphics_card(gpu)}" for gpu in facts.gpus] or ["GPU: none"]
    if facts.gpu_problem:
        lines.append(f"GPU driver: {facts.gpu_problem}")
    return lines


def processor(facts: HostFacts) -> str:
    name = f"{facts.cpu}, " if facts.cpu else ""
    vectors = " ".join(facts.simd) or "no vector extensions"
    return f"{name}{facts.architecture}, {cores(facts)}, {vectors}"


def cores(facts: HostFacts) -> str:
    count = f"{facts.physical_cores} core" + ("s" if facts.physical_cores != 1 else "")
    if facts.own_threads and facts.own_threads > facts.physical_cores:
        return f"{count} of {facts.own_threads}"
    return count


def memory(facts: HostFacts) -> str:
    where = " in this container" if facts.container else ""
    return f"{facts.memory_total / GIB:.1f} GiB{where}, {facts.memory_available / GIB:.1f} free"


def graphics_card(gpu: Gpu) -> str:
    size = (
        "with the machine's memory"
        if gpu.shared
        else f"{gpu.memory_total / GIB:.1f} GiB, {gpu.memory_free / GIB:.1f} free"
    )
    compute = f", compute capability {gpu.compute}" if gpu.compute else ""
    return f"{gpu.name}, {size}{compute}, driver {gpu.driver}"


def decisions(facts: HostFacts, plan: Plan | ClawlamaError) -> list[str]:
    if isinstance(plan, ClawlamaError):
        return [f"no plan: {plan}"]
    if plan.model.gguf != NOT_HERE:
        return list(plan.reasons)
    engine, *others = plan.reasons
    free = f"{facts.disk.free / GB:.0f} GB are free at {facts.disk.path}"
    short = ", too little" if facts.disk.free < plan.model.weights else ""
    return [engine, f"download: {plan.model.weights / GB:.1f} GB if it is not there yet; {free}{short}", *others]


def advice_lines(facts: HostFacts, plan: Plan | ClawlamaError) -> list[str]:
    """What this machine is recommended, and whether that is what would run."""
    advice = recommended(facts)
    model = advice.model
    same = isinstance(plan, Plan) and plan.model.name == model.name
    meanwhile = f"the engine {lessons(advice)} meanwhile" if advice.learns else "more than there is"
    needs = f"a lesson needs {lesson(model.facts()) / GIB:.0f} GiB: {meanwhile}"
    about = f"{model.quantization}, {download(model)} to download; {needs}"
    told = ", which is the plan" if same else f" ({about}); to take it, set CLAWLAMA_MODEL={model.name}"
    lines = [f"recommended: {model.name}{told}"]
    if advice.server and advice.server.download < facts.disk.free:
        lines.append(f"or: {advice.server.name} ({download(advice.server)}), larger; it serves and cannot learn")
    if isinstance(plan, Plan) and plan.engine == "ollama" and plan.model.name not in CATALOG:
        lines.append(f"note: {plan.model.name} is not in our list; its numbers are what Ollama says of it")
    return lines
