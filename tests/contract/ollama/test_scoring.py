"""What the scoring of replies leans on: prompts as text, and log-probabilities of what follows a text."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.contract.ollama.subject import GREEDY, QUESTION, Subject

pytestmark = pytest.mark.anyio
Observed = Callable[[str], None]
ASKED = "<|im_start|>user\nWhat is your name?<|im_end|>\n<|im_start|>assistant\n"


async def after(subject: Subject, text: str, **body: Any) -> dict[str, Any]:
    """One more token after a raw text, and its alternatives."""
    asked = {"model": subject.base, "prompt": text, "raw": True, "stream": False, "truncate": False}
    wanted = {"logprobs": True, "top_logprobs": 20, "options": {**GREEDY, "num_predict": 1}}
    answer = await subject.post("/api/generate", {**asked, **wanted, **body})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_conversation_can_be_had_as_the_text_that_the_model_reads(subject: Subject, observed: Observed) -> None:
    body = {"model": subject.base, "messages": QUESTION, "stream": False, "_debug_render_only": True}

    answer = (await subject.post("/api/chat", body)).json()

    text = answer.get("_debug_info", {}).get("rendered_template", "")
    observed("told" if text else "not told")
    if text:
        assert QUESTION[0]["content"] in text
        raw = await after(subject, text, options={**GREEDY, "num_predict": 12})
        assert raw["response"] == await subject.said(subject.base)


async def test_the_likeliest_token_after_a_text_is_the_one_that_comes(subject: Subject) -> None:
    found = await after(subject, ASKED)

    step = found["logprobs"][0]
    likelihoods = [one["logprob"] for one in step["top_logprobs"]]
    assert len(likelihoods) == 20
    assert likelihoods == sorted(likelihoods, reverse=True)
    assert step["token"] == found["response"]
    assert likelihoods[0] == pytest.approx(step["logprob"], abs=1e-4)


async def test_likelihoods_of_a_reply_can_be_walked_token_by_token(subject: Subject) -> None:
    whole = await after(subject, ASKED, options={**GREEDY, "num_predict": 4})

    text = ASKED
    for step in whole["logprobs"]:
        alone = (await after(subject, text))["logprobs"][0]
        assert alone["token"] == step["token"]
        assert alone["logprob"] == pytest.approx(step["logprob"], abs=0.02)
        text += step["token"]


async def test_where_the_reply_ends_likelihoods_come_once_a_grammar_forbids_the_end(
    subject: Subject, observed: Observed
) -> None:
    whole = await after(subject, ASKED, options={**GREEDY, "num_predict": 400})
    assert whole["done_reason"] == "stop"

    plain = await after(subject, ASKED + whole["response"])
    forbidden = await after(subject, ASKED + whole["response"], format="json")

    observed("told at the end too" if plain.get("logprobs") else "told there only under a grammar")
    assert forbidden["logprobs"]


async def test_a_grammar_does_not_change_the_likelihoods_that_are_told(subject: Subject) -> None:
    free = (await after(subject, ASKED))["logprobs"][0]["top_logprobs"]
    bound = (await after(subject, ASKED, format="json"))["logprobs"][0]["top_logprobs"]

    assert {one["token"]: one["logprob"] for one in bound} == pytest.approx(
        {one["token"]: one["logprob"] for one in free}, abs=0.02
    )


async def test_ruling_out_context_shift_loads_the_model_anew_or_does_not(subject: Subject, observed: Observed) -> None:
    await after(subject, ASKED)
    warm = (await after(subject, ASKED))["load_duration"]

    ruled_out = (await after(subject, ASKED, shift=False))["load_duration"]

    observed("loads anew" if ruled_out > 10 * warm else "does not")
    assert warm > 0


async def test_a_text_that_does_not_fit_is_refused_when_nothing_may_be_cut(subject: Subject) -> None:
    body = {"model": subject.base, "prompt": "word " * 3000, "raw": True, "stream": False, "truncate": False}

    answer = await subject.post("/api/generate", {**body, "options": {**GREEDY, "num_predict": 1}})

    assert answer.status_code in {400, 500}
    assert answer.json()["error"]
