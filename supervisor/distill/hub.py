"""A base model by its name on the Hugging Face hub, ``hf:owner/name``: fetched once, then a folder like any other.

Only such a name is ever looked for there; what lies on this machine is not.
"""

from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError

from supervisor.distill.job import HUB
from supervisor.errors import DistillError

WANTED = ["*.safetensors", "*.json", "*.jinja", "merges.txt", "tokenizer.model"]


def fetched(base: Path, *, endpoint: str | None = None, cache: Path | None = None) -> Path:
    """The folder. What was fetched before is used when the hub cannot be reached. Raises DistillError."""
    name = str(base).removeprefix(HUB)
    try:
        return Path(snapshot_download(name, allow_patterns=WANTED, endpoint=endpoint, cache_dir=cache))
    except (HfHubHTTPError, OSError, ValueError) as exc:
        problem = str(exc).splitlines()[0]
        raise DistillError(f"base model {name} cannot be had from the Hugging Face hub: {problem}") from exc
