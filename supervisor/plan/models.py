"""The base model: where its files are and what they say about it."""

import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from supervisor.errors import SettingsError

BUNDLED = ("tiny-chat",)
TEACHABLE = ("llama", "qwen2", "qwen3", "gemma3", "phi3")  # kinds of GGUF that lessons read; the trainer refuses others


class _Config(BaseModel):
    """The part of Hugging Face's ``config.json`` that we read."""

    model_config = ConfigDict(extra="ignore")

    max_position_embeddings: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int | None = None
    hidden_size: int
    head_dim: int | None = None


class Sampling(BaseModel):
    """How a reply is sampled when the request does not say: the model's own ``generation_config.json``.

    None leaves a value to the engine.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None


NO_WISHES = Sampling()


@dataclass(frozen=True)
class BaseModelFacts:
    """A base model on disk. Sizes in bytes."""

    name: str
    trains_on: Path  # what lessons load: a Hugging Face folder, or the GGUF itself
    gguf: Path  # what serves
    weights: int  # size of the GGUF
    max_context: int  # tokens
    kv_per_token: int  # bytes of key-value cache per token at f16
    sampling: Sampling = NO_WISHES
    digest: str | None = None  # "sha256:…" of the GGUF, where somebody counted it already
    parameters: int | None = None
    layers: int | None = None
    lessons: str | None = None  # why it cannot be taught


def model_facts(model: str) -> BaseModelFacts:
    """Look a model up by bundled name or folder.

    Raises SettingsError when the folder is missing something, naming what.
    """
    folder = bundled(model) if model in BUNDLED else Path(model).expanduser()
    if not folder.is_dir():
        raise SettingsError(
            f"CLAWLAMA_MODEL={model!r} is neither a bundled model ({', '.join(BUNDLED)}) nor a folder that exists"
        )
    ggufs = sorted(folder.glob("*.gguf"))
    if len(ggufs) != 1:
        raise SettingsError(f"model folder {folder} holds {len(ggufs)} .gguf files; it needs exactly one to serve")
    for needed in ("*.safetensors", "tokenizer.json"):
        if not any(folder.glob(needed)):
            raise SettingsError(
                f"model folder {folder} has no {needed}; lessons need the Hugging Face files beside the GGUF"
            )
    config = read_config(folder / "config.json")
    kv_heads = config.num_key_value_heads or config.num_attention_heads
    head_dim = config.head_dim or config.hidden_size // config.num_attention_heads
    return BaseModelFacts(
        name=folder.resolve().name,
        trains_on=folder,
        gguf=ggufs[0],
        weights=ggufs[0].stat().st_size,
        max_context=config.max_position_embeddings,
        kv_per_token=2 * 2 * config.num_hidden_layers * kv_heads * head_dim,
        sampling=read_sampling(folder / "generation_config.json"),
    )


def bundled(name: str) -> Path:
    """The folder of a model that comes with us, in a checkout or in an installed wheel."""
    package = Path(__file__).resolve().parent.parent
    places = [package / "_models" / name, package.parent / "models" / name]
    return next((place for place in places if place.is_dir()), places[-1])


def read_config(path: Path) -> _Config:
    try:
        return _Config.model_validate_json(path.read_text())
    except FileNotFoundError as exc:
        raise SettingsError(f"{path} is missing; a model folder holds Hugging Face's config.json") from exc
    except (OSError, UnicodeDecodeError) as exc:
        raise SettingsError(f"{path} cannot be read: {exc}") from exc
    except ValidationError as exc:
        problems = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}".lstrip(": ") for one in exc.errors())
        raise SettingsError(f"{path} is not a usable model configuration: {problems}") from exc


def read_sampling(path: Path) -> Sampling:
    """``do_sample: false`` means greedy: temperature 0. A model without the file has no wishes."""
    try:
        values = json.loads(path.read_text())
        return Sampling(temperature=0.0) if values.get("do_sample") is False else Sampling.model_validate(values)
    except FileNotFoundError:
        return NO_WISHES
    except (ValueError, AttributeError) as exc:
        raise SettingsError(f"{path} is not a usable generation configuration: {exc}") from exc
