"""Memory arithmetic: what weights, cache and lessons need, and what a machine has for them. Bytes everywhere."""

from collections.abc import Callable
from typing import Literal

from supervisor.host.facts import Gpu, HostFacts
from supervisor.plan.models import BaseModelFacts

KvCache = Literal["f16", "q8_0"]

GIB = 2**30
OPENCLAW = 2 * 10**9  # 0.8 to 1.1 GiB were measured; tools and long chats come on top
OPENCLAW_LEAST = 6 * GIB // 5  # where there is no more: chats work, large tools may not
SYSTEM = 3 * GIB // 4  # an operating system without a desktop, where the whole machine is looked at
RUNTIME = GIB // 2  # buffers of llama.cpp beside weights and cache, per device
TRAINER = GIB // 2  # torch, transformers and peft before any weight
FLOAT32_BELOW = 10**9  # parameters; up to there a lesson is counted as in float32, which many processors compute in
LESSON = 1.13  # weights, adapter, optimiser and activations per byte of weights: 5.1 GiB were measured for 4.5
PACKED, PACKED_EACH = 4 * 10**8, 0.3  # the same without the weights, in float32: bytes, and more per parameter
BITS = 4.85  # per parameter in a Q4_K_M file, where nobody says how many parameters there are
KV_SIZE: dict[KvCache, float] = {"f16": 1.0, "q8_0": 34 / 64}  # q8_0: 32 values and one scale in 34 bytes


def ram(facts: HostFacts) -> int:
    """What serving and lessons may share, beside OpenClaw."""
    return max(0, facts.memory_available - OPENCLAW)


def vram(facts: HostFacts) -> int:
    """What serving may use on the GPUs: each loses 5 % to splits that do not come out even, and its own buffers."""
    return graphics(facts, lambda gpu: max(0, int(0.95 * gpu.memory_free) - RUNTIME))


def graphics(facts: HostFacts, size: Callable[[Gpu], int]) -> int:
    """All GPUs together. Of one that is cut a process can use one slice; one without own memory adds nothing."""
    own = [gpu for gpu in facts.gpus if not gpu.shared]
    together = sum(size(gpu) for gpu in own if not gpu.slice)
    return max([together, *(size(gpu) for gpu in own if gpu.slice)])


def kv_bytes(model: BaseModelFacts, tokens: int, kv: KvCache) -> int:
    return int(tokens * model.kv_per_token * KV_SIZE[kv])


def lesson(model: BaseModelFacts) -> int:
    """What a lesson takes at its height, given room: the dense weights, however small the file that they come from."""
    parameters = parameters_of(model)
    return TRAINER + int(LESSON * parameters * (4 if parameters < FLOAT32_BELOW else 2))


def least_for_lesson(model: BaseModelFacts) -> int:
    """What it cannot do without: weights that it reads from a GGUF may stay as they are."""
    if model.trains_on != model.gguf:
        return lesson(model)
    return min(lesson(model), TRAINER + model.weights + PACKED + int(PACKED_EACH * parameters_of(model)))


def parameters_of(model: BaseModelFacts) -> int:
    return model.parameters or int(model.weights * 8 / BITS)


def idle(facts: HostFacts) -> HostFacts:
    """The same machine with nothing on it but an operating system."""
    gpus = tuple(gpu.model_copy(update={"memory_free": gpu.memory_total}) for gpu in facts.gpus)
    free = max(0, facts.memory_total - SYSTEM)
    return facts.model_copy(update={"memory_available": free, "gpus": gpus})


def given_back(facts: HostFacts, *, ram: int, vram: int) -> HostFacts:
    """The machine as it will be once an engine that holds this much now has let go of it."""
    gpus = []
    for gpu in facts.gpus:
        more = min(vram, gpu.memory_total - gpu.memory_free)
        gpus.append(gpu.model_copy(update={"memory_free": gpu.memory_free + more}))
        vram -= more
    free = min(facts.memory_total, facts.memory_available + ram)
    return facts.model_copy(update={"memory_available": free, "gpus": tuple(gpus)})
