import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from supervisor.errors import SettingsError
from supervisor.plan.models import bundled, kv_per_token, model_facts

HUGGING_FACE = ("config.json", "tokenizer.json", "model-00001-of-00002.safetensors")
SAID: dict[str, Any] = {
    "general.architecture": "qwen3",
    "qwen3.context_length": 2048,
    "qwen3.block_count": 3,
    "qwen3.attention.head_count": 4,
    "qwen3.attention.head_count_kv": 2,
    "qwen3.attention.key_length": 32,
    "qwen3.attention.value_length": 32,
    "qwen3.embedding_length": 64,
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "qwen2",
    "tokenizer.ggml.tokens": ["a", "ö", ""],
    "tokenizer.ggml.token_type": [1] * 3000,
}


def model_file(path: Path, **said: Any) -> Path:
    """A GGUF that says this about itself; None leaves something out. Its one tensor has 192 values."""
    path.parent.mkdir(exist_ok=True)
    values = {key: value for key, value in (SAID | said).items() if value is not None}
    writer = gguf.GGUFWriter(path, str(values.pop("general.architecture", "")))
    for key, value in values.items():
        kind = gguf.GGUFValueType.get_type(value)
        inner = gguf.GGUFValueType.get_type(value[0]) if isinstance(value, list) else None
        writer.add_key_value(key, value, kind, inner)
    writer.add_tensor("token_embd.weight", np.zeros((3, 64), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def beside(path: Path, *names: str) -> None:
    for name in names:
        (path.parent / name).touch()


def test_a_file_says_what_its_model_needs(tmp_path: Path) -> None:
    path = model_file(tmp_path / "Mine-1B-Q4_K_M.gguf")
    facts = model_facts(str(path))

    assert (facts.name, facts.gguf, facts.trains_on) == ("Mine-1B-Q4_K_M", path, path)
    assert (facts.weights, facts.parameters, facts.layers) == (path.stat().st_size, 3 * 64, 3)
    assert (facts.max_context, facts.lessons) == (2048, None)
    assert facts.kv_per_token == 2 * 2 * 3 * 2 * 32  # key and value, two bytes, layers, heads, size of a head


def test_a_folder_with_one_file_is_that_model_under_the_folders_name(tmp_path: Path) -> None:
    path = model_file(tmp_path / "mine/any.gguf")
    beside(path, "mmproj-any-f16.gguf")

    facts = model_facts(str(tmp_path / "mine"))

    assert (facts.name, facts.gguf) == ("mine", path)


def test_lessons_train_on_what_serves_though_other_weights_lie_beside_it(tmp_path: Path) -> None:
    path = model_file(tmp_path / "mine/any.gguf")
    beside(path, *HUGGING_FACE)

    assert model_facts(str(tmp_path / "mine")).trains_on == path


UNREADABLE = [
    ({"general.architecture": "granite", "granite.context_length": 512}, "is of the kind 'granite'"),
    ({"tokenizer.ggml.pre": "tekken"}, "splits text by gpt2/tekken"),
    ({"tokenizer.ggml.model": "t5"}, "splits text by t5/qwen2"),
    ({"qwen3.rope.scaling.type": "longrope"}, "stretches its context by 'longrope'"),
]


@pytest.mark.parametrize(("said", "reason"), UNREADABLE)
@pytest.mark.parametrize("named", ["", "any.gguf"])
def test_a_file_that_lessons_cannot_read_is_taught_by_what_lies_beside_it(
    tmp_path: Path, said: dict[str, Any], reason: str, named: str
) -> None:
    path = model_file(tmp_path / "mine/any.gguf", **said)
    beside(path, *HUGGING_FACE)
    model = str(tmp_path / "mine" / named)

    facts = model_facts(model)
    assert (facts.trains_on, facts.lessons) == (tmp_path / "mine", None)

    (tmp_path / "mine/tokenizer.json").unlink()
    facts = model_facts(model)
    assert facts.trains_on == path
    assert f"any.gguf {reason}" in str(facts.lessons)
    assert "put config.json, tokenizer.json, *.safetensors of the same model beside it" in str(facts.lessons)


def test_a_model_of_scored_pieces_needs_no_name_for_its_splits(tmp_path: Path) -> None:
    said = {"tokenizer.ggml.model": "llama", "tokenizer.ggml.pre": None}

    assert model_facts(str(model_file(tmp_path / "any.gguf", **said))).lessons is None


def test_how_it_wants_to_be_sampled_lies_beside_it(tmp_path: Path) -> None:
    path = model_file(tmp_path / "any.gguf")
    assert model_facts(str(path)).sampling.temperature is None

    (tmp_path / "generation_config.json").write_text(json.dumps({"temperature": 0.6, "top_k": 20}))
    assert (model_facts(str(path)).sampling.temperature, model_facts(str(path)).sampling.top_k) == (0.6, 20)

    (tmp_path / "generation_config.json").write_text("{")
    with pytest.raises(SettingsError, match=r"generation_config.json is not a usable generation configuration"):
        model_facts(str(path))


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"qwen3.attention.key_length": None, "qwen3.attention.value_length": None}, 2 * 2 * 3 * 2 * 16),
        ({"qwen3.attention.head_count_kv": None}, 2 * 2 * 3 * 4 * 32),
        ({"qwen3.attention.head_count_kv": [2, 1, 1]}, 2 * 2 * 4 * 32),
        ({"qwen3.attention.head_count": None, "qwen3.attention.head_count_kv": None}, 0),
    ],
)
def test_the_cache_is_counted_from_what_is_said(said: dict[str, Any], expected: int) -> None:
    values = {key: value for key, value in (SAID | said).items() if value is not None}

    assert kv_per_token("qwen3", values) == expected


def test_heads_that_differ_from_layer_to_layer_are_read_from_the_file(tmp_path: Path) -> None:
    path = model_file(tmp_path / "any.gguf", **{"qwen3.attention.head_count_kv": [2, 1, 1]})

    assert model_facts(str(path)).kv_per_token == 2 * 2 * 4 * 32


def test_the_bundled_model_is_found_from_any_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)

    facts = model_facts("tiny-chat")

    assert bundled("tiny-chat").is_absolute()
    assert (facts.name, facts.trains_on.name, facts.max_context) == ("tiny-chat", "tiny-chat.gguf", 4096)
    assert (facts.parameters, facts.layers, facts.kv_per_token) == (1_870_016, 4, 2 * 2 * 4 * 2 * 64)


def test_a_name_that_is_nothing_is_refused_with_the_choice() -> None:
    with pytest.raises(SettingsError) as error:
        model_facts("gpt-oss:20b")

    assert str(error.value) == (
        "CLAWLAMA_MODEL='gpt-oss:20b' is neither a bundled model (tiny-chat) nor a .gguf file or a folder that exists"
    )


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"holds no \.gguf file; it needs one"):
        model_facts(str(tmp_path))


def test_of_two_files_in_a_folder_one_has_to_be_named(tmp_path: Path) -> None:
    model_file(tmp_path / "a.gguf")
    model_file(tmp_path / "b.gguf")

    with pytest.raises(SettingsError, match=r"holds 2 \.gguf files; name the one .* CLAWLAMA_MODEL=.*/a\.gguf"):
        model_facts(str(tmp_path))
    assert model_facts(str(tmp_path / "b.gguf")).name == "b"


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"qwen3.context_length": None}, "does not say how long its context is"),
        ({"split.count": 3}, r"is a part of a model; join all parts with `llama-gguf-split --merge`"),
    ],
)
def test_a_file_that_is_no_whole_language_model_is_refused(tmp_path: Path, said: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        model_facts(str(model_file(tmp_path / "any.gguf", **said)))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "cannot be read as GGUF: cannot mmap an empty file; download it again"),
        (b"GGUF and then nothing", "is no GGUF, or ends before its tensors begin; download it again"),
        (b"<!doctype html><title>404</title>", "cannot be read as GGUF: it begins with b'<!do'"),
        (b"version https://git-lfs.github.com/spec/v1", "cannot be read as GGUF: it begins with b'vers'"),
    ],
)
def test_what_is_no_gguf_is_refused_by_name(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "any.gguf").write_bytes(content)

    with pytest.raises(SettingsError) as error:
        model_facts(str(tmp_path))

    assert f"{tmp_path / 'any.gguf'} {problem}" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("part", "problem"), [(0.01, "ends before its tensors begin"), (0.9, "it ends before its last tensor begins")]
)
def test_a_download_that_broke_off_is_refused(tmp_path: Path, part: float, problem: str) -> None:
    whole = (bundled("tiny-chat") / "tiny-chat.gguf").read_bytes()
    (tmp_path / "any.gguf").write_bytes(whole[: int(part * len(whole))])

    with pytest.raises(SettingsError, match=problem):
        model_facts(str(tmp_path))


@pytest.mark.parametrize("refused", ["is_file", "open"])
def test_what_this_user_may_not_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str) -> None:
    path = model_file(tmp_path / "any.gguf")

    def refuse(*_args: object) -> None:
        raise PermissionError(13, "Permission denied")  # root, who runs the tests, may read everything

    monkeypatch.setattr(Path, refused, refuse)
    with pytest.raises(SettingsError, match=r"any\.gguf'? cannot be .*: Permission denied"):
        model_facts(str(path))
