"""A version made once more from what is kept beside it: whether the same bytes come out, and if not, why."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from supervisor.adapters.manifest import FileRecord, Manifest
from supervisor.adapters.store import AdapterStore, AdapterVersion, file_record
from supervisor.distill.job import DistillJob, DistillResult
from supervisor.errors import AdapterError
from supervisor.learning.inputs import samples_sha256
from supervisor.learning.lesson import JOB_FILE, RESULT_FILE, text_of

OURS = {JOB_FILE, RESULT_FILE}  # the trainer writes neither


@dataclass(frozen=True)
class Remade:
    """``same``: for each file of the version, whether its second making gave the same bytes."""

    same: Mapping[str, bool]
    unlike: tuple[str, ...]
    """What was not as it was the first time, in words; empty: everything that is recorded."""


def recorded(version: AdapterVersion) -> DistillJob:
    """The job that made it. Raises AdapterError."""
    text = text_of(version.folder / JOB_FILE)
    try:
        return DistillJob.model_validate_json(text)
    except ValidationError as exc:
        raise AdapterError(f"{version.folder / JOB_FILE} does not parse: {exc.error_count()} errors") from exc


def again(
    store: AdapterStore, version: AdapterVersion, job: DistillJob, out: Path, bases: Iterable[Path]
) -> DistillJob:
    """The version's job, to be done once more into ``out``. Its data folder may have moved since.

    ``bases``: where the base model may be, a file or the folder that it lies in; the first that exists is taken.
    Raises AdapterError.
    """
    of_one_file = job.base == job.base_gguf
    places = (path / job.base.name if of_one_file and path.is_dir() else path for path in bases)
    base = next((place for place in places if place.exists()), None)
    if base is None:
        raise AdapterError(f"the base model {version.manifest.base_model} is not at {job.base}; say where with --base")
    return moved(job, version, store.root).model_copy(
        update={
            "id": f"remake-{version.manifest.version}",
            "base": base,
            "base_gguf": base if base.is_file() else base / job.base_gguf.name,
            "out": out,
        }
    )


def moved(job: DistillJob, version: AdapterVersion, root: Path) -> DistillJob:
    """The job with the folders of versions below ``root``, where they are now."""
    depth = len(Path(version.manifest.adapter).parts)
    before = job.out.parents[depth + 1]  # ROOT/NAME/.staging/VERSION

    def now(folder: Path | None) -> Path | None:
        return folder and (root / folder.relative_to(before) if folder.is_relative_to(before) else folder)

    samples = tuple(one.model_copy(update={"behaviour": now(one.behaviour)}) for one in job.samples)
    return job.model_copy(update={"parent": now(job.parent), "samples": samples})


def compared(
    store: AdapterStore, version: AdapterVersion, job: DistillJob, result: DistillResult, *, code_version: str
) -> Remade:
    """The version and what was made in ``job.out`` just now, by us: ``code_version``."""
    made = version.manifest
    files = {name: record for name, record in made.files.items() if name not in OURS}
    return Remade(
        same={name: is_still(job.out / name, record) for name, record in files.items()},
        unlike=(*unlike_inputs(store, made, job), *unlike_makers(made, result, code_version)),
    )


def unlike_inputs(store: AdapterStore, made: Manifest, job: DistillJob) -> Iterator[str]:
    if made.samples_sha256 not in {None, samples_sha256(job)}:
        yield "what was taught is not what the manifest says"
    for name, record in made.adapter_files.items():
        if not is_still(store.root / name, record):
            yield f"{store.root / name} has changed or is gone"
    for name, record in made.base_files.items():
        path = job.base if job.base.is_file() else job.base / name
        if not is_still(path, record):
            yield f"{path}, of the base model, has changed or is gone"


def unlike_makers(made: Manifest, result: DistillResult, code_version: str) -> Iterator[str]:
    if made.code_version != code_version:
        yield f"clawlama: {made.code_version} then, {code_version} now"
    now = {} if result.made_with is None else result.made_with.model_dump(mode="json")
    if not made.made_with:
        yield f"{made.version} does not say what it was made with"
    for name, value in made.made_with.items():
        if now.get(name) != value:
            yield f"{name}: {value} then, {now.get(name)} now"


def is_still(path: Path, record: FileRecord) -> bool:
    return path.is_file() and path.stat().st_size == record.size and file_record(path) == record
