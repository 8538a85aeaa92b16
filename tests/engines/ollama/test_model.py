"""What is read from the server's words about a model."""

from pathlib import Path
from typing import Any

import ollama
import pytest

from supervisor.engines.ollama.model import canonical, facts_of, read_show, stored_model, usual_places
from supervisor.errors import EngineError

HEX = "0123456789abcdef" * 4
INFO: dict[str, Any] = {
    "general.architecture": "qwen3",
    "general.parameter_count": 8_000_000_000,
    "qwen3.block_count": 36,
    "qwen3.context_length": 40960,
    "qwen3.embedding_length": 4096,
    "qwen3.attention.head_count": 32,
    "qwen3.attention.head_count_kv": 8,
    "qwen3.attention.key_length": 128,
    "qwen3.attention.value_length": 128,
}


def show(info: dict[str, Any] | None = None, **other: Any) -> ollama.ShowResponse:
    return ollama.ShowResponse.model_validate({"model_info": {**INFO, **(info or {})}, **other})


def test_a_model_tells_its_context_its_cache_and_its_weights() -> None:
    modelfile = f"# generated\n\nFROM /var/ollama/models/blobs/sha256-{HEX}\nTEMPLATE x"
    shown = read_show("qwen3:8b", show(modelfile=modelfile, capabilities=["completion", "tools"]))

    assert (shown.max_context, shown.layers, shown.parameters) == (40960, 36, 8_000_000_000)
    assert shown.kv_per_token == 2 * 36 * 8 * 256
    assert (shown.digest, shown.blob) == (f"sha256:{HEX}", Path(f"/var/ollama/models/blobs/sha256-{HEX}"))


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({"qwen3.attention.key_length": None, "qwen3.attention.value_length": None}, 2 * 36 * 8 * 256),
        ({"qwen3.attention.head_count_kv": [8] * 18 + [4] * 18}, 2 * 18 * 12 * 256),
        ({"qwen3.attention.head_count_kv": []}, 2 * 36 * 32 * 256),  # a long list is left out: all heads, at most
        ({"qwen3.attention.head_count": None, "qwen3.attention.head_count_kv": None}, 0),
    ],
)
def test_the_cache_is_counted_from_what_is_said(info: dict[str, Any], expected: int) -> None:
    assert read_show("qwen3:8b", show(info)).kv_per_token == expected


def test_the_models_own_parameters_are_its_sampling() -> None:
    parameters = (
        'stop                           "<|im_end|>"\ntemperature                    0.6\ntop_k  20\ntop_p x\n\n'
    )
    sampling = read_show("qwen3:8b", show(parameters=parameters)).sampling

    assert (sampling.temperature, sampling.top_k, sampling.top_p) == (0.6, 20, None)


def test_a_model_that_writes_nothing_or_says_nothing_is_refused() -> None:
    with pytest.raises(EngineError, match="generates no text"):
        read_show("bge-m3", show(capabilities=["embedding"]))
    with pytest.raises(EngineError, match="does not say how long"):
        read_show("odd", ollama.ShowResponse.model_validate({"model_info": {}}))


def test_a_store_that_is_not_to_be_found_serves_but_says_why_nothing_can_be_taught(tmp_path: Path) -> None:
    places = usual_places(tmp_path / "told", tmp_path / "own", None)
    store, stored, problem = stored_model(places, "qwen3:8b", "ab" * 32)
    facts = facts_of("qwen3:8b", 5_000_000_000, read_show("qwen3:8b", show()), stored, problem)

    assert (store, stored, facts.weights) == (None, None, 5_000_000_000)
    assert facts.lessons is not None
    assert "set OLLAMA_MODELS" in facts.lessons
    assert str(tmp_path / "told") in facts.lessons


@pytest.mark.parametrize(
    ("name", "same"), [("Qwen3", "qwen3:latest"), ("library/qwen3:8b", "qwen3:8b"), ("hf.co/a/B:Q4", "hf.co/a/b:q4")]
)
def test_names_are_compared_as_ollama_does(name: str, same: str) -> None:
    assert canonical(name) == canonical(same)


def test_a_kind_that_lessons_cannot_read_is_known_before_the_first_lesson() -> None:
    info = {"general.architecture": "gpt-oss", "gpt-oss.context_length": 4096}

    facts = facts_of("gpt-oss:20b", 1, read_show("gpt-oss:20b", show(info)), None, "")

    assert facts.lessons is not None
    assert "gpt-oss:20b is of the kind 'gpt-oss' and serves as it is" in facts.lessons
