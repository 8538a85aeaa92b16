"""Which model for which machine: tiers of memory, and the one that this machine is in."""

from dataclasses import dataclass
from pathlib import Path

from supervisor.host.facts import Disk, Gpu, HostFacts
from supervisor.plan.catalog import GB, LEARNERS, SERVERS, CatalogModel
from supervisor.plan.fit import ENOUGH, Fit, longest
from supervisor.plan.memory import GIB, graphics, idle, least_for_lesson, lesson, ram, vram
from supervisor.settings.settings import Settings

SLOW = 6 * GB  # a CPU reads all weights once per token: at 50 GB/s, of two memory channels, 8 tokens a second
WORTH_IT = 4 * GIB  # of GPU memory; with less, the CPU and a larger model are the better choice


@dataclass(frozen=True)
class Tier:
    """A usual machine. Graphics memory 0: none. Beside a GPU the RAM is what such machines usually have."""

    ram: int  # GB, as sold
    vram: int = 0

    @property
    def label(self) -> str:
        return f"{self.vram} GB GPU, {self.ram} GB RAM" if self.vram else f"{self.ram} GB RAM"


TIERS = (
    Tier(ram=8),
    Tier(ram=16),
    Tier(ram=32),
    Tier(ram=64),
    Tier(ram=16, vram=6),
    Tier(ram=16, vram=8),
    Tier(ram=32, vram=12),
    Tier(ram=32, vram=16),
    Tier(ram=64, vram=24),
    Tier(ram=128, vram=48),
    Tier(ram=256, vram=80),
)


@dataclass(frozen=True)
class Advice:
    model: CatalogModel
    learns: bool  # a lesson fits into memory while the engine rests
    beside: bool  # it even fits while the engine serves on
    server: CatalogModel | None  # a larger model that serves here and cannot learn


def recommended(facts: HostFacts) -> Advice:
    """The largest that serves, learns and is quick on this machine with nothing else on it; else the largest that
    serves; at last the smallest. Lessons run on the CPU."""
    machine = idle(facts)
    possible = [model for model in LEARNERS if serves(machine, model) and quick(machine, model)] or [LEARNERS[0]]
    taught = [model for model in possible if lesson(model.facts()) <= ram(machine)]
    best = (taught or possible)[-1]
    larger = [model for model in SERVERS if serves(machine, model) and model.download > best.download]
    return Advice(best, bool(taught), beside(machine, best), larger[-1] if larger else None)


def expected(machine: HostFacts, model: CatalogModel) -> Fit:
    """What would be planned for it, with everything else as it is by default."""
    return longest(machine, Settings(engine="ollama", model=model.name), model.facts(), "ollama")


def serves(machine: HostFacts, model: CatalogModel) -> bool:
    """With a useful context, and whole on the GPU where there is one worth it: parts in memory slow down the rest."""
    fits = expected(machine, model)
    return fits.context >= ENOUGH and (fits.on_gpu == 1 or not gpu_counts(machine))


def gpu_counts(machine: HostFacts) -> bool:
    return vram(machine) >= WORTH_IT


def quick(machine: HostFacts, model: CatalogModel) -> bool:
    """Not too slow to talk to: on a GPU, with memory that is made for one, or small."""
    return gpu_counts(machine) or any(gpu.shared for gpu in machine.gpus) or model.download <= SLOW


def beside(machine: HostFacts, model: CatalogModel) -> bool:
    """Whether a lesson fits into memory while the engine serves on."""
    return least_for_lesson(model.facts()) + expected(machine, model).ram <= ram(machine)


def default_model(facts: HostFacts) -> str:
    """What Ollama serves when the user named no model."""
    return recommended(facts).model.name


def tier_of(facts: HostFacts) -> Tier:
    """The largest tier of its kind that this machine fills to nine tenths; else the smallest."""
    with_gpu = gpu_counts(idle(facts))
    has = graphics(facts, lambda gpu: gpu.memory_total) if with_gpu else facts.memory_total
    kind = [tier for tier in TIERS if bool(tier.vram) == with_gpu]
    filled = [tier for tier in kind if has >= 0.9 * GIB * (tier.vram or tier.ram)]
    return filled[-1] if filled else kind[0]


def usual_machine(tier: Tier) -> HostFacts:
    """A machine of this tier with nothing else on it. Firmware and kernel keep some 4 % of the memory."""
    memory = int(0.96 * tier.ram * GIB)
    gpu = Gpu(name="", memory_total=tier.vram * GIB, memory_free=tier.vram * GIB, driver="", compute="8.6")
    facts = HostFacts(
        architecture="",
        physical_cores=1,
        usable_cpus=1,
        memory_total=memory,
        memory_available=memory,
        simd=(),
        gpus=(gpu,) if tier.vram else (),
        disk=Disk(path=Path(), total=0, free=0),
        container=False,
    )
    return idle(facts)
