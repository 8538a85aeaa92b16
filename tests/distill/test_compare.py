import json
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from supervisor.distill.compare import distance


def test_adapters_are_as_far_apart_as_the_number_that_differs_most(tmp_path: Path) -> None:
    for name, shift in (("one", 0.0), ("other", 0.25)):
        (tmp_path / name).mkdir()
        save_file({"a": torch.zeros(2), "b": torch.tensor([1.0, 2.0 + shift])}, tmp_path / name / "w.safetensors")
    (tmp_path / "one" / "alone.safetensors").touch()

    words = [sys.executable, "-m", "supervisor.distill", "--compare", str(tmp_path / "one"), str(tmp_path / "other")]
    ended = subprocess.run(words, capture_output=True, text=True, check=True)

    assert json.loads(ended.stdout) == {"w.safetensors": 0.25}


def test_adapters_of_other_shapes_are_infinitely_far_apart() -> None:
    assert distance({"a": torch.zeros(2)}, {"a": torch.zeros(3)}) == float("inf")
    assert distance({"a": torch.zeros(2)}, {"b": torch.zeros(2)}) == float("inf")
