"""The bench of a lesson's step, made small: the same work is compared, and it is the same."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.lesson import SAMPLES, chats

SCRIPT = Path(__file__).parents[2] / "bench" / "lesson.py"


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    argv = ["--json", "--model", "tiny", "--shape", "shared", "--dtype", "fp32", "--threads", "1"]
    folder = tmp_path_factory.mktemp("bench")
    ended = subprocess.run(
        [sys.executable, str(SCRIPT), *argv, "--folder", str(folder)], check=True, capture_output=True, text=True
    )
    return {row["trainer"]: row for row in json.loads(ended.stdout)["rows"]}


def test_all_trainers_give_the_same_loss_and_gradient(rows: dict[str, Any]) -> None:
    assert list(rows) == ["plain", "ours", "ours, small"]
    for row in rows.values():
        assert row["loss"] == pytest.approx(rows["plain"]["loss"], rel=1e-4)
        assert row["apart"] < 1e-4


def test_ours_needs_fewer_operations_and_the_small_way_some_more_again(rows: dict[str, Any]) -> None:
    assert rows["ours"]["tflop"] < rows["ours, small"]["tflop"] < rows["plain"]["tflop"]
    assert rows["plain"]["faster"] == 1.0


@pytest.mark.parametrize(("shape", "shared", "prompt"), [("short", 0, 256), ("shared", 128, 256), ("long", 2048, 2304)])
def test_a_shape_is_what_it_says(shape: str, shared: int, prompt: int) -> None:
    made = chats(shape, 1000)

    heads = {tuple(one["prompt"][: shared + 1]) for one in made}
    assert len(heads) == len(made) == SAMPLES
    assert len({head[:shared] for head in heads}) == 1
    assert {len(one["prompt"]) for one in made} == {prompt}
    assert {len(one["tokens"]) for one in made} == {128}
