"""/api/generate: raw and templated, streamed and whole, numbers and log-probabilities."""

from typing import Any

import pytest

from tests.contract.ollama.subject import GREEDY, Subject

pytestmark = pytest.mark.anyio
FEW = {**GREEDY, "num_predict": 6}


async def generated(subject: Subject, **body: Any) -> dict[str, Any]:
    asked = {"model": subject.base, "prompt": "What is your name?", "stream": False, "options": FEW, **body}
    answer = await subject.post("/api/generate", asked)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_reply_has_text_reason_and_times_in_nanoseconds(subject: Subject) -> None:
    found = await generated(subject)

    assert found["model"] == subject.base
    assert found["response"]
    assert (found["done"], found["done_reason"]) == (True, "length")
    assert found["eval_count"] == 6
    assert found["prompt_eval_count"] > 0
    assert found["total_duration"] >= found["eval_duration"] > 0
    assert all(isinstance(found[name], int) for name in found if name.endswith("_duration"))


async def test_streamed_lines_add_up_to_the_whole_reply(subject: Subject) -> None:
    lines = await subject.lines(
        "/api/generate", {"model": subject.base, "prompt": "What is your name?", "options": FEW}
    )

    assert "".join(line["response"] for line in lines) == (await generated(subject))["response"]
    assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]
    assert lines[-1]["done_reason"] == "length"
    assert "eval_count" not in lines[0]


async def test_raw_sends_the_text_as_it_is(subject: Subject) -> None:
    templated = "<|im_start|>user\nWhat is your name?<|im_end|>\n<|im_start|>assistant\n"

    found = await generated(subject, prompt=templated, raw=True)

    chat = await subject.said(subject.base, options=FEW)
    assert found["response"] == chat
    assert "context" not in found


async def test_raw_goes_with_no_system(subject: Subject) -> None:
    answer = await subject.post(
        "/api/generate", {"model": subject.base, "prompt": "x", "raw": True, "system": "You are Bob."}
    )

    wanted = {"error": "raw mode does not support template, system, or context"}
    assert (answer.status_code, answer.json()) == (400, wanted)


async def test_a_stop_word_ends_the_reply_before_it(subject: Subject) -> None:
    everything = (await generated(subject))["response"]
    word = everything[3:6]

    found = await generated(subject, options={**FEW, "stop": [word]})

    assert found["response"] == everything[: everything.index(word)]
    assert found["done_reason"] == "stop"


async def test_the_reply_ends_by_itself_with_the_reason_stop(subject: Subject) -> None:
    assert (await generated(subject, options={**GREEDY, "num_predict": 400}))["done_reason"] == "stop"


async def test_logprobs_have_text_bytes_and_as_many_alternatives_as_wished(subject: Subject) -> None:
    found = await generated(subject, logprobs=True, top_logprobs=3)

    tokens = found["logprobs"]
    assert bytes(byte for token in tokens for byte in token["bytes"]).decode() == found["response"]
    assert all(token["logprob"] <= 0 for token in tokens)
    assert all(len(token["top_logprobs"]) == 3 for token in tokens)
    assert all(token["top_logprobs"][0]["logprob"] == token["logprob"] for token in tokens)  # greedy: the likeliest


async def test_logprobs_come_without_alternatives_unless_wished(subject: Subject) -> None:
    found = await generated(subject, logprobs=True)

    assert found["logprobs"]
    assert all("top_logprobs" not in token for token in found["logprobs"])


async def test_logprobs_are_of_the_raw_distribution_whatever_the_sampling(subject: Subject) -> None:
    cold = (await generated(subject, logprobs=True))["logprobs"][0]
    sharp = (await generated(subject, logprobs=True, options={**FEW, "temperature": 0.01, "top_k": 1}))["logprobs"][0]

    assert cold["token"] == sharp["token"]
    assert cold["logprob"] == pytest.approx(sharp["logprob"], abs=0.01)


@pytest.mark.parametrize("count", [-1, 21])
async def test_more_than_twenty_alternatives_are_refused(subject: Subject, count: int) -> None:
    answer = await subject.post("/api/generate", {"model": subject.base, "prompt": "x", "top_logprobs": count})

    assert (answer.status_code, answer.json()) == (400, {"error": "top_logprobs must be between 0 and 20"})


async def test_an_option_of_the_wrong_type_is_an_error_that_names_it(subject: Subject) -> None:
    answer = await subject.post(
        "/api/generate", {"model": subject.base, "prompt": "x", "options": {"num_ctx": "many"}, "stream": False}
    )

    assert answer.status_code in {400, 500}
    assert answer.json() == {"error": 'option "num_ctx" must be of type integer'}


async def test_an_unknown_option_is_passed_over(subject: Subject) -> None:
    assert (await generated(subject, options={**FEW, "no_such_option": 1}))["response"]


async def test_the_same_seed_gives_the_same_reply(subject: Subject) -> None:
    lively = {"temperature": 1.5, "seed": 11, "num_predict": 12}

    first = await generated(subject, options=lively)
    second = await generated(subject, options=lively)

    assert first["response"] == second["response"]


async def test_the_official_client_streams(subject: Subject) -> None:
    parts = [
        part.response or ""
        async for part in await subject.client.generate(subject.base, "What is your name?", stream=True, options=FEW)
    ]

    assert "".join(parts) == (await generated(subject))["response"]
