import pytest

from supervisor.errors import MachineError
from supervisor.plan.models import BaseModelFacts
from supervisor.plan.prompt import FULL_PROMPT, LEAN_PROMPT, plan_prompt
from tests.plan.machines import big, model, settings


@pytest.mark.parametrize(
    ("lean", "slow", "one", "expected"),
    [
        ("auto", True, model(), True),
        ("auto", False, model(), True),
        ("auto", True, big(), True),
        ("auto", False, big(), False),
        ("on", False, big(), True),
        ("off", True, model(), False),
    ],
)
def test_the_prompt_is_lean_for_small_models_and_slow_machines(
    lean: str, slow: bool, one: BaseModelFacts, expected: bool
) -> None:
    prompt = plan_prompt(settings(lean=lean), one, 32768, slow=slow, measured=None)

    assert prompt.lean is expected
    assert prompt.tokens == (LEAN_PROMPT if expected else FULL_PROMPT)


def test_a_prompt_that_does_not_fit_is_trimmed() -> None:
    prompt = plan_prompt(settings(), big(), 6000, slow=False, measured=None)

    assert prompt.lean
    assert prompt.explained == (f"lean, about {LEAN_PROMPT} tokens: the full one, about 4500, does not fit the context")


def test_what_was_measured_counts_instead() -> None:
    fits = plan_prompt(settings(), big(), 32768, slow=False, measured=17000)
    trimmed = plan_prompt(settings(), big(), 16384, slow=False, measured=17000)

    assert (fits.lean, fits.explained) == (False, "full, measured 17000 tokens: it fits and is read in seconds")
    assert (trimmed.lean, trimmed.tokens) == (True, LEAN_PROMPT)


def test_little_room_for_a_talk_is_said() -> None:
    prompt = plan_prompt(settings(), model(), 2048, slow=True, measured=900)

    assert prompt.explained.endswith("; only 1148 are left for history and reply")


@pytest.mark.parametrize(
    ("lean", "remedy"), [("off", r"Set CLAWLAMA_LEAN=auto, raise"), ("on", "Choose a model with a longer context")]
)
def test_no_room_for_a_reply_is_refused_with_the_remedy(lean: str, remedy: str) -> None:
    with pytest.raises(MachineError, match=remedy) as error:
        plan_prompt(settings(lean=lean), model(), 4096, slow=True, measured=4000)

    assert str(error.value).startswith("OpenClaw's prompt is measured 4000 tokens, the context 4096: no room")
