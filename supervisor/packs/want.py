"""Which packs this machine wants: pure, and a sentence for each that it might want and cannot have."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from supervisor.host.facts import Gpu, HostFacts
from supervisor.packs.pack import Gives, Pack

Mode = Literal["auto", "on", "off"]

OLD, DRIVER_OF_OLD = 7.0, 570  # Ollama leaves devices of lower compute capability alone with an older driver

THINGS: dict[Gives, str] = {"ollama": "Ollama", "torch": "lessons"}


@dataclass(frozen=True)
class Wanted:
    packs: tuple[Pack, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)  # "lessons on the CPU": why, and what would change that


def wanted(
    known: Sequence[Pack], facts: HostFacts, mode: Mode, *, python: str, gives: Sequence[Gives] = ("ollama", "torch")
) -> Wanted:
    """``python``: the version that runs us, "3.11". ``gives``: what is of use, in order of need.

    ``auto`` wants packs where a GPU is seen; ``on`` wants them anyway, the newest where nothing is known of a GPU.
    """
    if mode == "off" or (mode == "auto" and not facts.gpus):
        return Wanted()
    packs, notes = [], {}
    for thing in gives:
        here = [pack for pack in known if pack.gives == thing and pack.machine == facts.architecture]
        fits = [pack for pack in here if not list(against(pack, facts.gpus, python))]
        if fits:
            packs.append(max(fits, key=lambda pack: (pack.min_driver, pack.min_compute)))
        else:
            notes[f"{THINGS[thing]} on the CPU"] = why_none(here, facts, python)
    return Wanted(tuple(packs), notes)


def against(pack: Pack, gpus: Sequence[Gpu], python: str) -> Iterator[str]:
    """What keeps this pack from working here, one sentence each.

    Ollama uses one set of libraries for all devices, so every one must do; a lesson takes one device.
    """
    if pack.python not in {None, python}:
        yield f"{pack.name} is made for Python {pack.python}, and this is {python}; use the container image"
    if not gpus:
        return
    driver = min(driver_of(gpu) for gpu in gpus)
    if driver < pack.min_driver:
        yield f"{pack.name} needs NVIDIA's driver {pack.min_driver} or newer, and {driver} is loaded; update the driver"
    old = next((gpu for gpu in gpus if gpu.compute and float(gpu.compute) < OLD), None)
    if pack.gives == "ollama" and old and driver < DRIVER_OF_OLD:
        yield f"{old.name} needs NVIDIA's driver {DRIVER_OF_OLD} or newer, and {driver} is loaded; update the driver"
    known = [float(gpu.compute) for gpu in gpus if gpu.compute]
    enough = (all if pack.gives == "ollama" else any)(compute >= pack.min_compute for compute in known)
    if known and not enough:
        yield f"{pack.name} needs a GPU of compute capability {pack.min_compute}, and {gpus[0].name} has {known[0]}"


def driver_of(gpu: Gpu) -> int:
    """570 for "570.133.20"; 0 when it does not say."""
    number = re.match(r"\d+", gpu.driver)
    return int(number[0]) if number else 0


def why_none(here: Sequence[Pack], facts: HostFacts, python: str) -> str:
    if not here:
        return f"there is no pack for {facts.architecture}"
    easiest = min(here, key=lambda pack: (pack.min_driver, pack.min_compute))
    return "; ".join(against(easiest, facts.gpus, python))
