"""What a model in Ollama is, from what the server says about it (/api/show) and what lies in its store."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import ollama

from supervisor.engines.ollama.names import parse_name
from supervisor.engines.ollama.store import Store, StoredModel, find_store
from supervisor.errors import EngineError, StoreError
from supervisor.plan.models import TEACHABLE, BaseModelFacts, Sampling, kv_per_token

FROM = re.compile(r"^FROM (?P<path>.*[/\\]blobs[/\\]sha256[-:](?P<hex>[0-9a-f]{64}))\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Shown:
    """What /api/show tells. ``kv_per_token``: bytes of key-value cache at f16, at most."""

    architecture: str
    max_context: int  # tokens
    kv_per_token: int
    layers: int | None
    parameters: int | None
    sampling: Sampling
    capabilities: tuple[str, ...]
    blob: Path | None  # of the weights, on the server's machine
    digest: str | None  # "sha256:…" of the weights


def read_show(name: str, show: ollama.ShowResponse) -> Shown:
    """Raises EngineError for a model that generates no text, or does not say what we need."""
    capabilities = tuple(show.capabilities or ())
    if capabilities and "completion" not in capabilities:
        raise EngineError(
            f"{name} generates no text (it can: {', '.join(capabilities)}); choose another CLAWLAMA_MODEL"
        )
    info = show.modelinfo or {}
    architecture = str(info.get("general.architecture", ""))
    context = info.get(f"{architecture}.context_length")
    if not isinstance(context, int):
        raise EngineError(f"Ollama does not say how long {name}'s context is; update Ollama, or choose another model")
    weights = FROM.search(show.modelfile or "")
    return Shown(
        architecture=architecture,
        max_context=context,
        kv_per_token=kv_per_token(architecture, info),
        layers=info.get(f"{architecture}.block_count"),
        parameters=info.get("general.parameter_count"),
        sampling=read_sampling(show.parameters or ""),
        capabilities=capabilities,
        blob=Path(weights["path"]) if weights else None,
        digest=f"sha256:{weights['hex']}" if weights else None,
    )


def read_sampling(parameters: str) -> Sampling:
    """The model's own parameters: a line each, name and value."""
    named = dict(line.split(maxsplit=1) for line in parameters.splitlines() if len(line.split(maxsplit=1)) == 2)
    return Sampling(
        temperature=_number(named.get("temperature")),
        top_p=_number(named.get("top_p")),
        top_k=None if (top_k := _number(named.get("top_k"))) is None else int(top_k),
    )


def canonical(name: str) -> str:
    """To compare two names, of which Ollama's list shows one; what is no name at all is equal to itself only."""
    try:
        return str(parse_name(name)).lower()
    except EngineError:
        return name


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def facts_of(name: str, size: int, shown: Shown, stored: StoredModel | None, problem: str) -> BaseModelFacts:
    """``size`` in bytes, as listed; ``problem``: why the store could not be read, then nothing can be taught."""
    weights = stored.weights if stored else shown.blob or Path("/nonexistent")
    if stored and stored.adapters:
        problem = f"{name} has an adapter of its own; choose the model that it was made from as CLAWLAMA_MODEL"
    elif not problem and shown.architecture not in TEACHABLE:
        problem = (
            f"{name} is of the kind {shown.architecture!r} and serves as it is; "
            f"to teach one, choose a model of the kind {' or '.join(TEACHABLE)}, such as qwen3:8b"
        )
    return BaseModelFacts(
        name=name,
        trains_on=weights,
        gguf=weights,
        weights=stored.weights_size if stored else size,
        max_context=shown.max_context,
        kv_per_token=shown.kv_per_token,
        sampling=shown.sampling,
        digest=stored.weights_digest if stored else shown.digest,
        parameters=shown.parameters,
        layers=shown.layers,
        lessons=problem or None,
    )


def stored_model(places: Iterable[Path], name: str, digest: str | None) -> tuple[Store | None, StoredModel | None, str]:
    """The model in the store that the server uses, or what is in the way of reading it. ``digest``: of its manifest."""
    looked_at = list(dict.fromkeys(places))
    store = find_store(looked_at, name, digest)
    if store is None:
        return (
            None,
            None,
            (
                f"no folder that can be read here holds the {name} that Ollama serves; set OLLAMA_MODELS to its models "
                f"folder and make that readable (looked in {', '.join(map(str, looked_at))})"
            ),
        )
    try:
        return store, store.read(name), ""
    except StoreError as exc:
        return store, None, str(exc)


def usual_places(told: Path | None, own: Path, blob: Path | None) -> list[Path]:
    """Where a server's models may lie: where the user said, where the server says, where its packages put them."""
    said = [told] if told else []
    shown = [blob.parent.parent] if blob else []
    homes = [Path.home(), Path("/usr/share/ollama"), Path("/var/lib/ollama"), Path("/root")]
    return [*said, *shown, own, *(home / ".ollama" / "models" for home in homes)]
