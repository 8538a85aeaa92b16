"""On another device than the CPU nothing of the fast engine stays behind: a device that computes shapes only tells."""

from pathlib import Path

import pytest
import torch
from torch.nn import Parameter

from supervisor.distill.fast.base import files_of, load_decoder
from supervisor.distill.fast.files import GgufFiles
from supervisor.distill.fast.linear import Part
from supervisor.distill.fast.lora import Adapter, modules_of
from supervisor.distill.fast.student import FastStudent
from supervisor.distill.job import LoraShape
from tests.distill.fast.pupils import pair, replies, silent
from tests.distill.lessons import training

ELSEWHERE = torch.device("meta")


@pytest.fixture(params=[False, True], ids=["whole", "packed"])
def student(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FastStudent:
    pair("qwen3", tmp_path)
    files = files_of(tmp_path / "model.gguf")
    assert files is not None
    monkeypatch.setattr(GgufFiles, "read", lambda _self, _name, _out: None)  # there are no values elsewhere
    shape, parts = LoraShape(r=4, alpha=8), {}
    for module in modules_of(shape, files):
        outputs, inputs = files.sizes[f"{module}.weight"]
        a, b = (torch.empty(size, device=ELSEWHERE) for size in ((4, inputs), (outputs, 4)))
        parts[module] = Part(Parameter(a), Parameter(b), 2.0)
    decoder = load_decoder(files, torch.bfloat16, packed=request.param, device=ELSEWHERE)
    return FastStudent(decoder, files, Adapter(shape, parts), None, again=1, rows=100)


@pytest.mark.parametrize("support", ["teacher", "student"])
def test_a_whole_update_is_computed_where_the_model_is(student: FastStudent, support: str) -> None:
    wishes = training(support=support)

    goals = student.goals(replies(), wishes, silent)
    steps = student.gradients(replies(), goals, wishes, silent)

    assert {step.own.device.type for step in steps} == {"meta"}
    assert all(one.grad is not None and one.grad.device.type == "meta" for one in student.parameters.values())
    assert {scores.device.type for scores in student.log_probs(replies())} == {"meta"}
