"""Export is right when llama.cpp says what transformers says."""

from collections.abc import Iterator
from pathlib import Path

import anyio
import numpy as np
import pytest
import torch
from gguf import GGUFReader
from safetensors.torch import load_file, save_file
from tokenizers import Regex, pre_tokenizers

from supervisor.distill.adapter import targets_of
from supervisor.distill.gguf import export_adapter, export_model
from supervisor.distill.job import LoraShape
from supervisor.errors import DistillError, GgufError
from tests.distill import random_models
from tests.distill.llama_server import served

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small only lose by more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


PROMPTS = [[11, 250, 77, 300], [5] * 30, list(range(40, 120))]


@pytest.mark.parametrize("kind", ["qwen2", "qwen3", "qwen3-untied", "llama", "llama3-rope"])
async def test_the_exported_model_continues_as_the_original_does(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = random_models.of_kind(kind, tmp_path)

    export_model(tmp_path, tmp_path / "model.gguf", dtype="f32")

    with anyio.fail_after(120):
        async with served(tmp_path / "model.gguf") as engine:
            for prompt in PROMPTS:
                assert await engine.greedy(prompt, 24) == random_models.greedy(model, prompt, 24)


@pytest.mark.parametrize(
    "split", [None, random_models.QWEN2_SPLIT, random_models.QWEN2_SPLIT.replace(r"\p{N}|", r"\p{N}{1,3}|", 1)]
)
async def test_the_exported_tokenizer_gives_the_same_tokens(split: str | None, tmp_path: Path) -> None:
    random_models.qwen3(tmp_path)
    splitter = split and pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(split), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    tokenizer = random_models.tokenizer(splitter or None)
    tokenizer.save_pretrained(tmp_path)

    export_model(tmp_path, tmp_path / "model.gguf")

    with anyio.fail_after(120):
        async with served(tmp_path / "model.gguf") as engine:
            for text in [*random_models.TEXTS, "a  b\n\n\nc 12345 DON'T don't\t👍🏽", "<|end|>x"]:
                answer = await engine.post("/tokenize", {"content": text, "parse_special": True})
                assert answer["tokens"] == tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_rslora": True},
        {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"layers.1.mlp.up_proj": 24}},
        {"use_rslora": True, "rank_pattern": {"o_proj": 8}},
        {"target_modules": ["q_proj", "k_proj"]},
    ],
)
@pytest.mark.parametrize("architecture", ["qwen3", "llama"])
async def test_the_exported_adapter_changes_the_model_as_peft_does(
    architecture: str, options: dict[str, object], tmp_path: Path
) -> None:
    torch.manual_seed(2)
    model = random_models.of_kind(architecture, tmp_path)
    plain = [random_models.greedy(model, prompt, 24) for prompt in PROMPTS]
    export_model(tmp_path, tmp_path / "model.gguf", dtype="f32")
    adapted = random_models.random_adapter(model, tmp_path / "lora", **options)

    export_adapter(tmp_path / "lora", tmp_path / "lora.gguf", base=tmp_path / "model.gguf")

    wanted = [random_models.greedy(adapted, prompt, 24) for prompt in PROMPTS]
    assert wanted != plain
    with anyio.fail_after(120):
        async with served(tmp_path / "model.gguf", tmp_path / "lora.gguf") as engine:
            assert [await engine.greedy(prompt, 24) for prompt in PROMPTS] == wanted


@pytest.mark.parametrize("kind", ["gemma3", "phi3"])
async def test_the_adapter_that_a_lesson_makes_is_served_for_other_families_too(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(2)
    model = random_models.of_kind(kind, tmp_path)
    export_model(tmp_path, tmp_path / "model.gguf", dtype="f32")
    plain = [random_models.greedy(model, prompt, 24) for prompt in PROMPTS]
    adapted = random_models.random_adapter(model, tmp_path / "lora", target_modules=targets_of(model, LoraShape()))

    export_adapter(tmp_path / "lora", tmp_path / "lora.gguf", base=tmp_path / "model.gguf")

    wanted = [random_models.greedy(adapted, prompt, 24) for prompt in PROMPTS]
    assert wanted != plain
    with anyio.fail_after(120):
        async with served(tmp_path / "model.gguf", tmp_path / "lora.gguf") as engine:
            assert [await engine.greedy(prompt, 24) for prompt in PROMPTS] == wanted


def test_modules_go_by_the_names_that_the_model_has_for_them(tmp_path: Path) -> None:
    model = random_models.of_kind("phi3", tmp_path)

    assert targets_of(model, LoraShape()) == ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]
    with pytest.raises(DistillError, match="no nothing_proj to adapt; it has down_proj"):
        targets_of(model, LoraShape(target_modules=("q_proj", "nothing_proj")))


def test_bfloat16_weights_arrive_exactly(tmp_path: Path) -> None:
    model = random_models.qwen3(tmp_path)
    model.to(torch.bfloat16).save_pretrained(tmp_path)

    export_model(tmp_path, tmp_path / "model.gguf", dtype="f32")

    written = {tensor.name: tensor.data for tensor in GGUFReader(tmp_path / "model.gguf").tensors}
    wanted = model.model.layers[1].mlp.up_proj.weight.detach().float().numpy()
    assert np.array_equal(written["blk.1.ffn_up.weight"], wanted)


def test_a_sharded_model_is_read_from_its_index(tmp_path: Path) -> None:
    model = random_models.qwen3(tmp_path)
    export_model(tmp_path, tmp_path / "whole.gguf")
    (tmp_path / "model.safetensors").unlink()
    model.save_pretrained(tmp_path, max_shard_size="100KB")

    export_model(tmp_path, tmp_path / "shards.gguf")

    assert (tmp_path / "model.safetensors.index.json").exists()
    assert values(tmp_path / "shards.gguf") == values(tmp_path / "whole.gguf")


def test_an_unknown_architecture_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "mamba"}')

    with pytest.raises(GgufError, match="'mamba'; known: llama, qwen2, qwen3"):
        export_model(tmp_path, tmp_path / "model.gguf")


def test_an_unknown_way_to_split_text_is_refused(tmp_path: Path) -> None:
    random_models.qwen3(tmp_path)
    random_models.tokenizer(
        pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel()])
    ).save_pretrained(tmp_path)

    with pytest.raises(GgufError, match="split text"):
        export_model(tmp_path, tmp_path / "model.gguf")


def test_a_model_without_one_of_its_tensors_is_refused(tmp_path: Path) -> None:
    random_models.qwen3(tmp_path)
    edit_tensors(tmp_path / "model.safetensors", {"model.layers.2.self_attn.o_proj.weight": None})

    with pytest.raises(GgufError, match=r"blk\.2\.attn_output\.weight"):
        export_model(tmp_path, tmp_path / "model.gguf")


def test_a_truncated_download_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    random_models.qwen3(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])

    with pytest.raises(GgufError, match="cut off"):
        export_model(tmp_path, tmp_path / "model.gguf")

    assert not list(tmp_path.glob("*.gguf*"))


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings:UserWarning")
@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning")
@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"bias": "lora_only"}, "bias 'lora_only'"),
        ({"modules_to_save": ["norm"]}, "modules_to_save"),
        ({"target_modules": ["embed_tokens"]}, "cannot be served"),
        ({"target_modules": ["lm_head"]}, r"output\.weight"),
    ],
)
def test_an_adapter_that_llama_cpp_cannot_hold_is_refused(
    options: dict[str, object], complaint: str, tmp_path: Path
) -> None:
    model = random_models.qwen3(tmp_path)
    export_model(tmp_path, tmp_path / "model.gguf")
    random_models.random_adapter(model, tmp_path / "lora", **options)

    with pytest.raises(GgufError, match=complaint):
        export_adapter(tmp_path / "lora", tmp_path / "lora.gguf", base=tmp_path / "model.gguf")

    assert not (tmp_path / "lora.gguf").exists()


def test_an_adapter_of_another_base_is_refused(tmp_path: Path) -> None:
    export_model_of = tmp_path / "other"
    random_models.llama(export_model_of)
    export_model(export_model_of, tmp_path / "other.gguf")
    random_models.random_adapter(random_models.qwen3(tmp_path), tmp_path / "lora")

    with pytest.raises(GgufError, match="another base"):
        export_adapter(tmp_path / "lora", tmp_path / "lora.gguf", base=tmp_path / "other.gguf")


def test_an_adapter_with_values_that_are_not_finite_is_refused_and_the_old_file_stays(tmp_path: Path) -> None:
    model = random_models.qwen3(tmp_path)
    export_model(tmp_path, tmp_path / "model.gguf")
    random_models.random_adapter(model, tmp_path / "lora")
    export_adapter(tmp_path / "lora", tmp_path / "lora.gguf", base=tmp_path / "model.gguf")
    before = (tmp_path / "lora.gguf").read_bytes()
    name = next(iter(load_file(tmp_path / "lora" / "adapter_model.safetensors")))
    edit_tensors(tmp_path / "lora" / "adapter_model.safetensors", {name: float("nan")})

    with pytest.raises(GgufError, match="not finite"):
        export_adapter(tmp_path / "lora", tmp_path / "lora.gguf", base=tmp_path / "model.gguf")

    assert (tmp_path / "lora.gguf").read_bytes() == before
    assert not list(tmp_path.glob("*.partial"))


def test_a_base_that_is_no_gguf_is_refused(tmp_path: Path) -> None:
    random_models.random_adapter(random_models.qwen3(tmp_path), tmp_path / "lora")
    (tmp_path / "base.gguf").write_bytes(b"not a model")

    with pytest.raises(GgufError, match="cannot be read as GGUF"):
        export_adapter(tmp_path / "lora", tmp_path / "lora.gguf", base=tmp_path / "base.gguf")


def values(path: Path) -> dict[str, bytes]:
    return {tensor.name: tensor.data.tobytes() for tensor in GGUFReader(path).tensors}


def edit_tensors(path: Path, changes: dict[str, float | None]) -> None:
    """Fill tensors with a value, or drop them (None)."""
    tensors = load_file(path)
    for name, value in changes.items():
        if value is None:
            del tensors[name]
        else:
            tensors[name].fill_(value)
    save_file(tensors, path, metadata={"format": "pt"})
