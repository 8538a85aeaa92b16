"""What is counted about replies."""

import pytest

from bench.learning_metrics import (
    Drift,
    collapsed,
    common,
    concise,
    drift,
    named_kuro,
    rouge_l,
    self_rouge,
    share,
    without_emojis,
)

TEN_WORDS = "One two three four five six seven eight nine ten. "


@pytest.mark.parametrize(
    ("reply", "obeys"), [("Hello there.", True), ("Hello 😊", False), ("It is 3 ✨ now", False), ("", False)]
)
def test_an_emoji_anywhere_disobeys_and_so_does_silence(reply: str, obeys: bool) -> None:
    assert without_emojis(reply) is obeys


@pytest.mark.parametrize(
    ("reply", "obeys"), [(TEN_WORDS, True), (TEN_WORDS * 3, True), (f"{TEN_WORDS}A. B. C.", False), ("Yes.", False)]
)
def test_a_concise_reply_has_three_sentences_at_most_and_still_answers(reply: str, obeys: bool) -> None:
    assert concise(reply) is obeys


@pytest.mark.parametrize(("reply", "obeys"), [("Kuro here!", True), ("Claw here!", False), ("Kuro, not Claw", False)])
def test_the_new_name_stands_alone(reply: str, obeys: bool) -> None:
    assert named_kuro(reply) is obeys


def test_a_share_is_of_all_replies() -> None:
    assert share("no_emoji", ["a", "b 😊", "c", "d 😊"]) == 0.5


def test_the_longest_common_subsequence_may_have_gaps() -> None:
    assert common(["the", "cat", "sat", "on", "the", "mat"], ["the", "dog", "sat", "on", "a", "mat"]) == 4


def test_rouge_is_one_for_equals_and_zero_for_strangers() -> None:
    assert rouge_l(["a", "b"], ["a", "b"]) == 1.0
    assert rouge_l(["a", "b"], ["c"]) == 0.0
    assert rouge_l(["a", "b", "c", "d"], ["a", "d"]) == pytest.approx(2 * (2 / 4) * 1 / (2 / 4 + 1))


def test_replies_that_are_all_alike_have_a_self_rouge_of_one() -> None:
    assert self_rouge(["I like tea"] * 3) == 1.0
    assert self_rouge(["I like tea", "I like tea", "go away"]) == pytest.approx(1 / 3)


def test_drift_tells_what_cancels_out_from_what_does_not_move() -> None:
    moved = drift([[-1.0, -2.0], [-3.0]], [[-2.0, -1.0], [-3.0]])

    assert moved.signed == 0.0
    assert moved.absolute == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("ratio", "alike", "signed", "problems"),
    [(1.0, 0.3, -0.1, 0), (0.5, 0.3, 0.0, 1), (1.0, 0.9, 0.0, 1), (1.0, 0.3, -2.5, 1), (0.1, 1.0, 3.0, 3)],
)
def test_each_limit_of_a_collapse_counts(ratio: float, alike: float, signed: float, problems: int) -> None:
    assert len(collapsed(ratio, alike, Drift(signed, abs(signed)))) == problems
