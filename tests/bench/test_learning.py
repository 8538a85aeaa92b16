"""The bench that tells whether lessons teach: how runs are told, and the script itself, made small."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench.learning_metrics import Drift
from bench.learning_plot import draw
from bench.learning_runs import Lesson, Point, Run, Told, table

SCRIPT = Path(__file__).parents[2] / "bench" / "learning.py"

SHARES = {"no_emoji": 0.8, "concise": 0.1, "identity": 0.0}


def point(lessons: int, taught: float, **other: float) -> Point:
    shares = {"no_emoji": taught, "concise": 0.0, "identity": 0.0}
    asked = {"no_emoji": 0.9, "concise": other.pop("asked", 1.0), "identity": 1.0}
    values = {"tasks": 1.0, "entropy": 0.3, "alike": 0.2} | other
    return Point(lessons, shares, shares, drift=Drift(-0.1, 0.2), asked=asked, **values)


def run(after: Point, seed: int = 0) -> Run:
    told = Told(SHARES, SHARES, {"concise": 0.9, "identity": 1.0})
    return Run("no_emoji", seed, (point(0, 0.0), after), (Lesson("v0001", "done", 1.0, 2.0),), told)


def test_a_run_that_meets_every_aim_has_no_problems() -> None:
    assert run(point(1, 0.96, tasks=0.99, asked=0.99)).problems == []


@pytest.mark.parametrize(
    ("after", "problem"),
    [
        (point(1, 0.94), "no_emoji 94%"),
        (point(1, 1.0, tasks=0.97), "tasks: 3.0 points less"),
        (point(1, 1.0, asked=0.9), "when asked: 10.0 points less"),
        (replace(point(1, 1.0), obeys={"no_emoji": 1.0, "concise": 0.0, "identity": 0.05}), "unasked: 5.0 points more"),
        (point(1, 1.0, entropy=0.1), "entropy 0.33"),
    ],
)
def test_a_missed_aim_is_named_with_its_figure(after: Point, problem: str) -> None:
    [told] = run(after).problems

    assert problem in told


def test_the_table_tells_the_mean_of_the_seeds_and_how_far_they_lie_apart() -> None:
    lines = table([run(point(1, 0.9), seed=0), run(point(1, 1.0), seed=1)])

    assert "| obeyed | 0.0 → 95.0 (90.0–100.0) [80.0] |" in lines
    assert "| tasks | 100.0 → 100.0 |" in lines


def test_the_curves_become_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")

    draw([run(point(1, 1.0)), run(point(1, 0.9), seed=1)], tmp_path / "curves.png")

    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_one_lesson_through_the_served_engine_is_measured_before_and_after() -> None:
    options = ["--json", "--preference", "concise", "--lessons", "1", "--seeds", "0", "--prompts", "2"]
    argv = [sys.executable, str(SCRIPT), *options]
    ended = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr

    [course] = json.loads(ended.stdout)["runs"]
    assert [one["state"] for one in course["lessons"]] == ["done"]
    assert [one["lessons"] for one in course["curve"]] == [0, 1]
    assert course["curve"][0]["obeys"]["concise"] == 0.0
    assert course["curve"][1]["drift"]["absolute"] > 0.01
