"""Where a lesson runs, and that all of it runs there."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from peft import PeftModel

from supervisor.distill.device import (
    CPU,
    Candidate,
    best_device,
    multiply_float32_quickly,
    precision,
    roomiest,
)
from supervisor.distill.lesson import run_lesson
from supervisor.distill.step import picked, reply_log_probs
from tests.distill.lessons import chat_model, job

KERNELS = ["sm_75", "sm_80", "sm_90a", "compute_120"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chat_model(tmp_path_factory.mktemp("base"))


def test_the_gpu_with_most_room_is_taken() -> None:
    found = roomiest([Candidate(0, 10, (8, 9)), Candidate(1, 30, (7, 5)), Candidate(2, 20, (12, 0))], KERNELS)

    assert found == torch.device("cuda", 1)


def test_a_gpu_that_this_torch_has_no_kernels_for_is_left_alone() -> None:
    assert roomiest([Candidate(0, 99, (6, 1)), Candidate(1, 1, (8, 0))], KERNELS) == torch.device("cuda", 1)
    assert roomiest([Candidate(0, 99, (6, 1))], KERNELS) == CPU


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_the_cpu_is_taken() -> None:
    assert best_device() == CPU


def test_float32_products_are_exact_whoever_computes_them() -> None:
    matrix = torch.rand(200, 200)

    multiply_float32_quickly()

    torch.testing.assert_close(matrix @ matrix, (matrix.double() @ matrix.double()).float(), rtol=2e-6, atol=0)


@pytest.mark.parametrize(
    ("parameters", "quick", "expected"),
    [(10**8, True, 32), (6 * 10**8, True, 16), (8 * 10**9, True, 16), (6 * 10**8, False, 32), (8 * 10**9, False, 32)],
)
def test_larger_models_are_computed_in_half_the_bits_where_that_is_quick(
    parameters: int, quick: bool, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": quick})

    assert precision(parameters, CPU).itemsize * 8 == expected


class Shapes(torch.nn.Module):
    """A model that computes shapes only: its device refuses a tensor that lies elsewhere, as a GPU does."""

    device = torch.device("meta")

    def forward(self, input_ids: torch.Tensor, logits_to_keep: int, **_: Any) -> Any:
        return SimpleNamespace(logits=(input_ids[:, -logits_to_keep:, None] + torch.zeros(50, device=self.device)))


def test_a_reply_is_scored_where_the_model_is() -> None:
    log_probs = reply_log_probs(cast("PeftModel", Shapes()), [1, 2, 3], [4, 5])

    assert (log_probs.device.type, log_probs.shape) == ("meta", (2, 50))
    assert picked(log_probs, [4, 5]).device.type == "meta"


FIRST_CALL = """
import hashlib, torch
from supervisor.distill.device import compute_with, multiply_float32_quickly
compute_with(2)
multiply_float32_quickly()
print(hashlib.sha256((torch.arange(50_000.0) / 1000).exp().numpy().tobytes()).hexdigest())
"""


def test_every_process_computes_the_same() -> None:
    """Without care, one in ten would not, and one run in two or three of this test would see it."""
    started = [subprocess.Popen([sys.executable, "-c", FIRST_CALL], stdout=subprocess.PIPE) for _ in range(8)]

    assert len({process.communicate(timeout=120)[0] for process in started}) == 1
    assert not any(process.returncode for process in started)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_learns_what_the_cpu_learns(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_gpu = run_lesson(job(base, tmp_path / "gpu"), lambda *_: None)
    again = run_lesson(job(base, tmp_path / "again", parent=tmp_path / "gpu"), lambda *_: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    on_cpu = run_lesson(job(base, tmp_path / "cpu"), lambda *_: None)

    assert on_gpu.probes[0].after == pytest.approx(on_cpu.probes[0].after, abs=1e-2)
    assert again.step == 2 * on_gpu.step
