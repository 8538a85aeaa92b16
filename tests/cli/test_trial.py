from dataclasses import replace
from pathlib import Path

import pytest

from supervisor.cli.show import console
from supervisor.cli.trial import Trial, Turn, emojis, first, judge, load_prompts, same_answer, show_trial
from supervisor.errors import SettingsError
from supervisor.plan.models import bundled


def turns(*replies: str) -> tuple[Turn, ...]:
    return tuple(Turn(f"question {number}", reply, 0.1 * number, 1.0) for number, reply in enumerate(replies))


GOOD = Trial(
    feedback="no emojis",
    before=turns("a 🎉", "b 😊", "c 🌍", "d 🎂", "e 🚀"),
    after=turns("a", "b", "c", "d", "e"),
    tasks=8,
    tasks_before=8,
    tasks_after=8,
    version="v0001",
    start_s=10.0,
    lesson_s=3.0,
    feedback_to_served_s=5.0,
    supervisor_mib=90.0,
)


def test_a_lesson_that_took_and_cost_nothing_is_a_success() -> None:
    assert judge(GOOD) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"before": turns("a", "b", "c 🌍", "d 🎂", "e 🚀")}, "too few replies had emojis before the lesson"),
        ({"after": turns("a 🎉", "b 😊", "c", "d", "e")}, "only 3 of 5 replies are free of emojis after the lesson"),
        ({"after": turns("", "", "c", "d", "e")}, "only 3 of 5 replies are free of emojis after the lesson"),
        ({"tasks_before": 6}, "only 6 of 8 tasks were right before the lesson"),
        ({"tasks_after": 6}, "6 of 8 tasks are right after the lesson, 8 before"),
        ({"before": (), "after": ()}, "no question was asked"),
    ],
)
def test_what_did_not_go_as_asked_is_said(change: dict[str, object], problem: str) -> None:
    (found,) = judge(replace(GOOD, **change))  # type: ignore[arg-type]

    assert found.startswith(problem)


@pytest.mark.parametrize(
    "change",
    [
        {"before": turns("a", "b 😊", "c 🌍", "d 🎂", "e 🚀")},
        {"after": turns("a 🎉", "b", "c", "d", "e")},
        {"tasks_before": 7, "tasks_after": 7},
        {"tasks_before": 7, "tasks_after": 6},
        {"tasks": 0, "tasks_before": 0, "tasks_after": 0},
    ],
)
def test_one_slip_is_forgiven(change: dict[str, object]) -> None:
    assert judge(replace(GOOD, **change)) == []  # type: ignore[arg-type]


def test_every_problem_is_said() -> None:
    bad = replace(GOOD, before=turns("a", "b"), after=turns("a 🎉", "b 🎉"), tasks_before=1, tasks_after=0)

    assert len(judge(bad)) == 4


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("plain, with — dashes … and 20 °C ©", 0),
        ("日本語 naïve", 0),
        ("yes 🎉", 1),
        ("☀️ ⭐ ✅", 3),
        ("🎉🎉🎉", 3),
        ("🥳🫠🤖", 3),
    ],
)
def test_emojis_are_counted_and_letters_are_not(text: str, count: int) -> None:
    assert emojis(text) == count


@pytest.mark.parametrize(
    ("reply", "answer", "same"),
    [
        ("Paris", "paris", True),
        (" Paris. ", "Paris", True),
        ("one  two\nthree!", "one two three", True),
        ("Paris, of course", "Paris", False),
        ("", "Paris", False),
        ("12", "1 2", False),
    ],
)
def test_an_answer_counts_in_any_spelling_but_no_other_words(reply: str, answer: str, same: bool) -> None:
    assert same_answer(reply, answer) is same


def test_the_first_word_is_timed_by_the_median() -> None:
    assert first(turns("a", "b", "c")) == 0.1


def test_replies_are_shown_as_they_are_whatever_they_hold() -> None:
    odd = replace(GOOD, after=turns("[/bold] [red]x", "b", "c", "d", "e"), feedback="no [emojis]")

    with console.capture() as shown:
        show_trial(odd)

    assert "[/bold] [red]x" in shown.get()
    assert "no [emojis]" in shown.get()
    assert "It learned" in shown.get()


def test_a_failed_trial_is_shown_as_one() -> None:
    with console.capture() as shown:
        show_trial(replace(GOOD, tasks_after=0))

    assert "not as asked: 0 of 8 tasks are right" in " ".join(shown.get().split())


def test_the_bundled_prompts_keep_the_questions_apart() -> None:
    prompts = load_prompts(bundled("tiny-chat"))

    assert not {*prompts.train} & {*prompts.held_out.style}
    assert prompts.held_out.tasks


def test_prompts_that_are_missing_are_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"prompts\.json is not usable"):
        load_prompts(tmp_path)
