"""clawlama adapters --remake: teach a version's lesson once more, beside it, and compare."""

import json as json_text
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version as package_version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
from rich.markup import escape

from supervisor.adapters.store import AdapterStore, AdapterVersion
from supervisor.cli.show import as_json, console, lesson_bar
from supervisor.distill.job import DistillJob, DistillResult, Progress
from supervisor.engines.ollama.store import Store
from supervisor.executors.local import LocalExecutor
from supervisor.host.detect import detect
from supervisor.learning.remake import Remade, again, compared, recorded
from supervisor.packs.choose import packs_for
from supervisor.plan.models import BUNDLED, bundled
from supervisor.services.output import Output
from supervisor.settings.datadir import DataDir
from supervisor.settings.settings import Settings
from supervisor.settings.sources import child_environment

CPU = "the CPU"  # as the trainer calls it


def show_remake(settings: Settings, name: str, base: Path | None, *, json: bool) -> bool:
    """Whether every file came out the same, to the bit. Raises AdapterError, DistillError."""
    data = DataDir(settings.data)
    store = AdapterStore(data.adapters)
    version = store.version(settings.adapter, name)
    data.prepare()
    with TemporaryDirectory(dir=data.lessons, prefix="remake-") as folder:
        work = Path(folder)
        (work / "out").mkdir()
        made_by = recorded(version)
        places = [base] if base else [made_by.base, *bases(settings, version)]
        job = again(store, version, made_by, work / "out", places)
        result = anyio.run(taught, executor(settings, work, version), job, json)
        remade = compared(store, version, job, result, code_version=package_version("clawlama"))
        apart = {} if all(remade.same.values()) else distances(version.folder, job.out)
    if json:
        as_json({"version": name, **asdict(remade), "apart": apart})
    else:
        show(name, remade, apart)
    return all(remade.same.values())


def bases(settings: Settings, version: AdapterVersion) -> list[Path]:
    """Where the base model would be: among the bundled ones, or in Ollama's folder."""
    made = version.manifest
    store = Store(settings.ollama_models or settings.data / "ollama")
    return [*([bundled(made.base_model)] if made.base_model in BUNDLED else []), store.blob(made.base_digest)]


def executor(settings: Settings, work: Path, version: AdapterVersion) -> LocalExecutor:
    """On the kind of device that made the version."""
    on_cpu = version.manifest.made_with.get("device") == CPU
    around = {**child_environment(), **({"CUDA_VISIBLE_DEVICES": ""} if on_cpu else {})}
    packs = packs_for(settings, detect(settings.data), ollama=None)
    return LocalExecutor(work, around, Output("lesson"), str(work), packs.lesson_environment)


async def taught(by: LocalExecutor, job: DistillJob, quiet: bool) -> DistillResult:
    with lesson_bar(quiet=quiet) as update:

        async def tell(progress: Progress) -> None:
            update({"progress": progress.fraction, "step": progress.step})

        return await by.run(job, tell)


def distances(one: Path, other: Path) -> dict[str, Any]:
    """Largest difference of a weight, by file; counted by the trainer, which can read them."""
    argv = [sys.executable, "-m", "supervisor.distill", "--compare", str(one), str(other)]
    ended = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json_text.loads(ended.stdout))


def show(name: str, remade: Remade, apart: Mapping[str, Any]) -> None:
    for file, same in remade.same.items():
        far = f", by at most {apart[file]:.2g}" if file in apart else ""
        console.print(f"{file:<28}{'[green]identical[/green]' if same else f'[yellow]differs{far}[/yellow]'}")
    for reason in remade.unlike:
        console.print(f"not as it was: {escape(reason)}", highlight=False, soft_wrap=True)
    if all(remade.same.values()):
        console.print(f"{name} was made again, to the bit", highlight=False)
    elif not remade.unlike:
        console.print("everything that is recorded was as it was", highlight=False)
