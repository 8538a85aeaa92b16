"""The base model: where its files are and what they say about it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from supervisor.errors import SettingsError
from supervisor.plan.gguf_header import Header, read_header

BUNDLED = ("tiny-chat",)
TEACHABLE = ("llama", "qwen2", "qwen3", "gemma3", "phi3")  # kinds of GGUF that lessons read; the trainer refuses others
SPLITS = ("gpt-2", "qwen2", "llama-bpe", "llama3", "llama-v3", "deepseek-r1-qwen")  # and ways to split text
STRETCHES = (None, "none", "linear", "yarn")  # and ways to lengthen a context
HUGGING_FACE = ("config.json", "tokenizer.json", "*.safetensors")
PICTURES = "mmproj"  # begins the names of files that lie beside some models, to see with
F16 = 2  # bytes


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
    """Look a model up by bundled name, GGUF file or folder. Lessons train on what serves where they can read it.

    Raises SettingsError when there is none, or more than one, or one that cannot be read.
    """
    path = bundled(model) if model in BUNDLED else Path(model).expanduser()
    try:
        gguf = path if path.is_file() else only_gguf(path, model)
    except PermissionError as exc:
        raise SettingsError(f"CLAWLAMA_MODEL={model!r} cannot be looked at: {exc.strerror}") from exc
    header, folder = read_header(gguf), gguf.parent
    context = header.of_model("context_length")
    if not isinstance(context, int):
        raise SettingsError(f"{gguf} does not say how long its context is; it is no language model that can chat")
    if int(header.values.get("split.count") or 1) > 1:
        raise SettingsError(f"{gguf} is a part of a model; join all parts with `llama-gguf-split --merge`")
    unreadable = why_unreadable(header)
    instead = unreadable is not None and all(any(folder.glob(needed)) for needed in HUGGING_FACE)
    problem = f"{gguf.name} {unreadable}; put {', '.join(HUGGING_FACE)} of the same model beside it"
    return BaseModelFacts(
        name=gguf.stem if gguf == path else path.resolve().name,
        trains_on=folder if instead else gguf,
        gguf=gguf,
        weights=gguf.stat().st_size,
        max_context=context,
        kv_per_token=kv_per_token(header.architecture, header.values),
        sampling=read_sampling(folder / "generation_config.json"),
        parameters=header.parameters,
        layers=header.of_model("block_count"),
        lessons=problem if unreadable and not instead else None,
    )


def only_gguf(folder: Path, model: str) -> Path:
    if not folder.is_dir():
        raise SettingsError(
            f"CLAWLAMA_MODEL={model!r} is neither a bundled model ({', '.join(BUNDLED)}) nor a .gguf file or a folder "
            "that exists"
        )
    ggufs = sorted(one for one in folder.glob("*.gguf") if not one.name.startswith(PICTURES))
    if not ggufs:
        raise SettingsError(f"model folder {folder} holds no .gguf file; it needs one, which serves")
    if len(ggufs) > 1:
        raise SettingsError(
            f"model folder {folder} holds {len(ggufs)} .gguf files; name the one that is to serve, "
            f"such as CLAWLAMA_MODEL={ggufs[0]}"
        )
    return ggufs[0]


def why_unreadable(header: Header) -> str | None:
    """Why lessons cannot load this file, as the rest of a sentence; None when nothing is against it."""
    if header.architecture not in TEACHABLE:
        return f"is of the kind {header.architecture!r}, and lessons read {', '.join(TEACHABLE)}"
    kind, split = header.values.get("tokenizer.ggml.model"), header.values.get("tokenizer.ggml.pre")
    if kind != "llama" and (kind != "gpt2" or split not in SPLITS):
        return f"splits text by {kind}/{split}, which lessons do not know"
    stretch = header.of_model("rope.scaling.type")
    return None if stretch in STRETCHES else f"stretches its context by {stretch!r}, which lessons do not know"


def kv_per_token(architecture: str, info: Mapping[str, Any]) -> int:
    """Bytes of cache at f16, every layer counted in full; one with a sliding window keeps less.

    ``info``: a GGUF's key-value pairs. 0 where they do not say.
    """

    def number(key: str) -> int:
        value = info.get(f"{architecture}.{key}")
        return value if isinstance(value, int) else 0

    heads, layers = number("attention.head_count"), number("block_count")
    per_layer = info.get(f"{architecture}.attention.head_count_kv")
    if isinstance(per_layer, list) and len(per_layer) == layers:
        kv_heads = sum(per_layer)  # layers differ; a long list is left out by Ollama's /api/show
    else:
        kv_heads = layers * (number("attention.head_count_kv") or heads)
    usual = number("embedding_length") // heads if heads else 0
    keys, values = number("attention.key_length") or usual, number("attention.value_length") or usual
    return F16 * kv_heads * (keys + values)


def bundled(name: str) -> Path:
    """The folder of a model that comes with us, in a checkout or in an installed wheel."""
    package = Path(__file__).resolve().parent.parent
    places = [package / "_models" / name, package.parent / "models" / name]
    return next((place for place in places if place.is_dir()), places[-1])


def read_sampling(path: Path) -> Sampling:
    """``do_sample: false`` means greedy: temperature 0. A model without the file has no wishes."""
    try:
        values = json.loads(path.read_text())
        return Sampling(temperature=0.0) if values.get("do_sample") is False else Sampling.model_validate(values)
    except FileNotFoundError:
        return NO_WISHES
    except (ValueError, AttributeError) as exc:
        raise SettingsError(f"{path} is not a usable generation configuration: {exc}") from exc
