"""What a lesson read, in digests: whoever teaches it again knows whether it is the same lesson."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

from supervisor.adapters.manifest import FileRecord
from supervisor.adapters.store import AdapterStore, file_record
from supervisor.distill.job import DistillJob

OF_A_BASE = {".safetensors", ".json", ".jinja", ".txt", ".model"}
OF_AN_ADAPTER = ("adapter_config.json", "adapter_model.safetensors", "optimizer.safetensors")

Seen = tuple[Path, int, int, int]  # path, size, time of the last change (ns), inode


@dataclass
class Digests:
    """Counts a base model's files once, and again only when they change."""

    _known: dict[Seen, FileRecord] = field(default_factory=dict)

    def base_files(self, weights: Path, digest: str) -> dict[str, FileRecord]:
        """Of a Hugging Face folder, or of a GGUF, whose digest is known: ``sha256:…``."""
        if weights.is_file():
            return {weights.name: FileRecord(size=weights.stat().st_size, sha256=digest.removeprefix("sha256:"))}
        return {path.name: self._of(path) for path in sorted(weights.iterdir()) if path.suffix in OF_A_BASE}

    def _of(self, path: Path) -> FileRecord:
        stat = path.stat()
        seen = (path, stat.st_size, stat.st_mtime_ns, stat.st_ino)
        if seen not in self._known:
            self._known[seen] = file_record(path)
        return self._known[seen]


def samples_sha256(job: DistillJob) -> str:
    """Of the samples as JSON with sorted keys and no spaces.

    Where the data folder lies makes no difference, and neither does a field that came later, with its default.
    """
    samples = [sample.model_dump(mode="json", exclude={"behaviour"}, exclude_defaults=True) for sample in job.samples]
    text = json.dumps(samples, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def adapter_files(store: AdapterStore, job: DistillJob) -> dict[str, FileRecord]:
    """Of the parent and of the versions that wrote the replies, as their own manifests have them."""
    of_any_base = AdapterStore(store.root)
    folders = {job.parent, *(sample.behaviour for sample in job.samples)}
    found: dict[str, FileRecord] = {}
    for folder in sorted(one for one in folders if one is not None):
        place = folder.relative_to(store.root)
        files = of_any_base.version(str(place.parent), place.name).manifest.files
        found |= {f"{place}/{name}": files[name] for name in OF_AN_ADAPTER if name in files}
    return found
