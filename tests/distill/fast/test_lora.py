"""Adapters of the fast engine are PEFT's, in and out."""

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel

from supervisor.distill.fast.base import Files, files_of
from supervisor.distill.fast.lora import new_adapter, read_adapter, usual
from supervisor.distill.job import LoraShape
from supervisor.errors import DistillError
from tests.distill import random_models
from tests.distill.fast.pupils import CPU


@pytest.fixture
def files(tmp_path: Path) -> Files:
    random_models.qwen3(tmp_path)
    files = files_of(tmp_path)
    assert files is not None
    return files


def test_peft_loads_what_was_saved(files: Files, tmp_path: Path) -> None:
    ours = new_adapter(LoraShape(r=4, alpha=12), files, seed=3, device=CPU)
    (tmp_path / "v1").mkdir()
    ours.save(tmp_path / "v1")

    model = PeftModel.from_pretrained(random_models.loaded(tmp_path, torch.float32), tmp_path / "v1", is_trainable=True)

    theirs = {name: matrix for name, matrix in model.named_parameters() if matrix.requires_grad}
    assert theirs.keys() == ours.parameters.keys()
    assert all(torch.equal(theirs[name], matrix) for name, matrix in ours.parameters.items())
    assert model.peft_config["default"].lora_alpha == 12


def test_what_peft_saved_is_read_with_its_scale(files: Files, tmp_path: Path) -> None:
    base = random_models.loaded(tmp_path, torch.float32)
    model = random_models.random_adapter(
        base, tmp_path / "v1", r=8, lora_alpha=32, target_modules=["q_proj", "up_proj"]
    )

    ours = read_adapter(tmp_path / "v1", files, device=CPU)

    named = dict(model.named_parameters())
    assert len(ours.parts) == 2 * files.shape.layers
    assert all(torch.equal(named[name], matrix) for name, matrix in ours.parameters.items())
    assert {part.scale for part in ours.parts.values()} == {4.0}


def test_a_new_adapter_changes_nothing_yet_and_its_seed_decides(files: Files) -> None:
    def drawn(seed: int) -> torch.Tensor:
        made = new_adapter(LoraShape(), files, seed=seed, device=CPU)
        assert all(not part.b.any() for part in made.parts.values())
        return next(iter(made.parts.values())).a

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))


@pytest.mark.parametrize("option", [{"use_rslora": True}, {"use_dora": True}, {"rank_pattern": {"q_proj": 8}}], ids=str)
def test_unusual_adapters_are_left_to_peft(option: dict[str, object], tmp_path: Path) -> None:
    model = random_models.qwen3(tmp_path)
    random_models.random_adapter(model, tmp_path / "v1", target_modules=["q_proj"], **option)

    assert not usual(tmp_path / "v1")


def test_another_bases_adapter_is_refused_by_name(files: Files, tmp_path: Path) -> None:
    other = random_models.qwen3(tmp_path / "other", hidden_size=32)
    random_models.random_adapter(other, tmp_path / "v1", target_modules=["q_proj"])

    with pytest.raises(DistillError, match=r"v1 does not fit model.layers.0.self_attn.q_proj"):
        read_adapter(tmp_path / "v1", files, device=CPU)


def test_an_adapter_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(DistillError, match="v7 holds no adapter"):
        usual(tmp_path / "v7")


def test_the_configuration_says_the_same_each_time(files: Files, tmp_path: Path) -> None:
    new_adapter(LoraShape(), files, seed=0, device=CPU).save(tmp_path)

    targets = json.loads((tmp_path / "adapter_config.json").read_text())["target_modules"]
    assert targets == sorted(targets)
