import json
from pathlib import Path
from typing import Any

import pytest

from supervisor.errors import SettingsError
from supervisor.plan.models import bundled, model_facts

CONFIG = {
    "max_position_embeddings": 2048,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_size": 64,
    "head_dim": 32,
}


def folder(path: Path, **other: Any) -> Path:
    """A model folder with everything that is looked at; None leaves a key of the configuration out."""
    path.mkdir()
    (path / "any.gguf").write_bytes(b"x" * 100)
    (path / "model.safetensors").touch()
    (path / "tokenizer.json").touch()
    config = {key: value for key, value in (CONFIG | other).items() if value is not None}
    (path / "config.json").write_text(json.dumps(config))
    return path


def test_a_folder_says_what_its_model_needs(tmp_path: Path) -> None:
    facts = model_facts(str(folder(tmp_path / "mine")))

    assert (facts.name, facts.gguf.name, facts.weights, facts.max_context) == ("mine", "any.gguf", 100, 2048)
    assert facts.kv_per_token == 2 * 2 * 3 * 2 * 32  # key and value, two bytes, layers, heads, size of a head


@pytest.mark.parametrize(
    ("other", "per_token"),
    [({"head_dim": None}, 2 * 2 * 3 * 2 * 16), ({"num_key_value_heads": None}, 2 * 2 * 3 * 4 * 32)],
)
def test_what_older_configurations_leave_out_follows_from_the_rest(
    tmp_path: Path, other: dict[str, None], per_token: int
) -> None:
    assert model_facts(str(folder(tmp_path / "mine", **other))).kv_per_token == per_token


def test_weights_may_come_in_several_files(tmp_path: Path) -> None:
    path = folder(tmp_path / "mine")
    (path / "model.safetensors").rename(path / "model-00001-of-00002.safetensors")

    assert model_facts(str(path)).weights == 100


def test_the_bundled_model_is_found_from_any_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)

    assert bundled("tiny-chat").is_absolute()
    assert model_facts("tiny-chat").name == "tiny-chat"


def test_a_name_that_is_nothing_is_refused_with_the_choice() -> None:
    with pytest.raises(SettingsError) as error:
        model_facts("gpt-oss:20b")

    assert str(error.value) == (
        "CLAWLAMA_MODEL='gpt-oss:20b' is neither a bundled model (tiny-chat) nor a folder that exists"
    )


@pytest.mark.parametrize("missing", ["model.safetensors", "tokenizer.json", "config.json", "any.gguf"])
def test_a_missing_file_is_named(tmp_path: Path, missing: str) -> None:
    path = folder(tmp_path / "mine")
    (path / missing).unlink()

    with pytest.raises(SettingsError, match=Path(missing).suffix):
        model_facts(str(path))


def test_two_files_to_serve_are_one_too_many(tmp_path: Path) -> None:
    path = folder(tmp_path / "mine")
    (path / "other.gguf").touch()

    with pytest.raises(SettingsError, match=r"holds 2 \.gguf files; it needs exactly one"):
        model_facts(str(path))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"{", "Invalid JSON"),
        (b'{"hidden_size": 4}', "max_position_embeddings: Field required; num_hidden_layers: Field required"),
        (b"\xff", "cannot be read"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_explained_in_one_line(
    tmp_path: Path, text: bytes, problem: str
) -> None:
    path = folder(tmp_path / "mine")
    (path / "config.json").write_bytes(text)

    with pytest.raises(SettingsError) as error:
        model_facts(str(path))

    assert problem in str(error.value)
    assert "\n" not in str(error.value)
