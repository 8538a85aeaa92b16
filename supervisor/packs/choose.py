"""The packs of this machine: from settings, facts and what is there already to the object that installs them."""

import platform
from importlib.util import find_spec
from pathlib import Path

from supervisor.host.facts import HostFacts
from supervisor.packs.pack import Gives, known_packs, shipped
from supervisor.packs.packs import BAKED, Packs, PackSetup
from supervisor.packs.want import Wanted, wanted
from supervisor.plan.decide import Device
from supervisor.settings.datadir import DataDir
from supervisor.settings.settings import Settings


def packs_for(settings: Settings, facts: HostFacts, *, ollama: Path | None) -> Packs:
    """``ollama``: the executable of a server of our own; None where somebody else's serves, or none.

    What came with its CUDA libraries, by whoever installed it, needs no pack. Raises PackError when our own list of
    packs is not in order.
    """
    of_use: list[Gives] = ["ollama"] if ollama and not brings_cuda(ollama) else []
    if not torch_knows_cuda():
        of_use.append("torch")
    want = wanted(known_packs(shipped()), facts, settings.gpu_packs, python=python_version(), gives=of_use)
    return Packs(setup_for(settings, want))


def setup_for(settings: Settings, want: Wanted, *, home: Path | None = None) -> PackSetup:
    """``home``: instead of the data folder, for an image that brings packs for more than one machine."""
    return PackSetup(
        home or DataDir(settings.data).packs,
        settings.package_index,
        want.packs,
        want.notes,
        others=() if home else (BAKED,),
        keep_others=home is not None,
    )


def usable(facts: HostFacts, packs: Packs, ollama: Path | None) -> HostFacts:
    """The machine as an Ollama of ours can use it now: without its GPUs until their libraries are there.

    ``ollama`` as in ``packs_for``; where none of ours serves, the facts stay as they are.
    """
    if ollama is None or brings_cuda(ollama) or packs.ollama():
        return facts
    return facts.model_copy(update={"gpus": ()})


def lessons_on(facts: HostFacts, packs: Packs) -> Device:
    """Where a lesson's torch can work now."""
    return "gpu" if facts.gpus and (packs.python_path() or torch_knows_cuda()) else "cpu"


def brings_cuda(ollama: Path) -> bool:
    """Whether an Ollama finds CUDA libraries: it looks beside its real place, whatever links lead to it."""
    return any(ollama.resolve().parent.parent.glob("lib/ollama/cuda_v*/*ggml-cuda*"))


def torch_knows_cuda() -> bool:
    """Whether the torch that lessons would take anyway does; found without importing it."""
    spec = find_spec("torch")
    return spec is not None and (Path(spec.origin or "").parent / "lib" / "libtorch_cuda.so").exists()


def python_version() -> str:
    return ".".join(platform.python_version_tuple()[:2])
