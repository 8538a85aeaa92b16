"""The packs of this machine: from settings and facts to the object that installs them."""

import platform
from collections.abc import Sequence
from pathlib import Path

from supervisor.host.facts import HostFacts
from supervisor.packs.pack import Gives, Pack, known_packs, shipped
from supervisor.packs.packs import BAKED, Packs, PackSetup
from supervisor.packs.want import wanted
from supervisor.settings.datadir import DataDir
from supervisor.settings.settings import Settings


def packs_for(settings: Settings, facts: HostFacts, *, ollama: bool) -> Packs:
    """``ollama``: a server of our own serves, or may. Raises PackError when our own list of packs is not in order."""
    of_use: Sequence[Gives] = ("ollama", "torch") if ollama else ("torch",)
    known = known_packs(shipped())
    want = wanted(known, facts, settings.gpu_packs, python=python_version(), gives=of_use)
    return Packs(setup_for(settings, wanted_packs=want.packs, notes=want.notes))


def setup_for(
    settings: Settings, *, wanted_packs: tuple[Pack, ...] = (), notes: tuple[str, ...] = (), home: Path | None = None
) -> PackSetup:
    return PackSetup(
        home or DataDir(settings.data).packs,
        settings.package_index,
        wanted_packs,
        notes,
        others=() if home else (BAKED,),
    )


def python_version() -> str:
    return ".".join(platform.python_version_tuple()[:2])
