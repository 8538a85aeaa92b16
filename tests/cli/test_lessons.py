"""The list of lessons says in words what a person should know of each."""

from typing import Any

import pytest
from rich.console import Console

from supervisor.cli.lessons import lessons_table


def shown(**changes: Any) -> str:
    lesson = {"id": "les-1", "state": "done", "feedback_count": 1, "version": "v0001", "timing_ms": {"total": 9000.0}}
    lesson |= {"error": None, "step": "learned", "metrics": {}}
    console = Console(width=200)
    with console.capture() as caught:
        console.print(lessons_table([lesson | changes]))
    return caught.get().splitlines()[-1].rstrip()


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        ({"prompt_tokens_cut": 210.0, "reply_tokens_cut": 0.0}, "210 prompt tokens cut"),
        (
            {"prompt_tokens_cut": 1.0, "reply_tokens_cut": 7.0, "replies_respelled": 2.0},
            "1 prompt tokens cut, 7 reply tokens cut, 2 replies split otherwise by the engine",
        ),
        ({}, "9.0 s"),
    ],
)
def test_what_was_cut_is_told(metrics: dict[str, float], words: str) -> None:
    assert shown(metrics=metrics).endswith(words)


def test_why_a_lesson_failed_is_told_before_anything_else() -> None:
    assert shown(state="failed", error="out of memory", metrics={"prompt_tokens_cut": 3.0}).endswith("out of memory")


def test_a_lesson_under_way_tells_its_step() -> None:
    assert shown(state="running", step="update 1 of 2").endswith("update 1 of 2")
