"""/api/chat: streamed and whole, what a model cannot do, too long a chat."""

from collections.abc import Callable

import pytest

from tests.contract.ollama.subject import GREEDY, QUESTION, Subject

pytestmark = pytest.mark.anyio
Observed = Callable[[str], None]
FEW = {**GREEDY, "num_predict": 8}
TOOL = {
    "type": "function",
    "function": {"name": "weather", "description": "Tells it", "parameters": {"type": "object", "properties": {}}},
}


async def test_streamed_lines_add_up_to_the_whole_reply(subject: Subject) -> None:
    lines = await subject.lines("/api/chat", {"model": subject.base, "messages": QUESTION, "options": FEW})

    assert all(line["message"]["role"] == "assistant" for line in lines)
    assert "".join(line["message"]["content"] for line in lines) == await subject.said(subject.base, options=FEW)
    assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]
    assert lines[-1]["done_reason"] == "length"
    assert lines[-1]["eval_count"] == 8


async def test_the_official_client_chats(subject: Subject) -> None:
    reply = await subject.client.chat(subject.base, QUESTION, options=FEW, logprobs=True, top_logprobs=2)

    assert reply.message.content == await subject.said(subject.base, options=FEW)
    assert reply.logprobs is not None
    assert "".join(token.token for token in reply.logprobs) == reply.message.content


async def test_a_system_message_reaches_the_model(subject: Subject) -> None:
    told = [{"role": "system", "content": "Never use emojis."}, *QUESTION]

    with_system = await subject.client.chat(subject.base, told, options=FEW)
    without = await subject.client.chat(subject.base, QUESTION, options=FEW)

    assert (with_system.prompt_eval_count or 0) > (without.prompt_eval_count or 0) > 0


async def test_the_models_own_system_gives_way_to_the_callers(subject: Subject) -> None:
    await subject.client.create(model=subject.name("own"), from_=subject.base, system="Never use emojis.")
    told = [{"role": "system", "content": "You are Bob."}, *QUESTION]

    assert await subject.said(subject.name("own"), messages=told) == await subject.said(subject.base, messages=told)


async def test_an_answer_can_be_begun_for_the_model(subject: Subject) -> None:
    begun = [*QUESTION, {"role": "assistant", "content": "My name is"}]

    assert await subject.said(subject.base, messages=begun) != await subject.said(subject.base)


async def test_json_is_made_when_it_is_wanted(subject: Subject) -> None:
    schema = {"type": "string", "enum": ["yes", "no"]}

    said = await subject.said(subject.base, format=schema, options={**GREEDY, "num_predict": 30})

    assert said.strip() in {'"yes"', '"no"'}


async def test_thinking_is_refused_of_a_model_that_cannot(subject: Subject) -> None:
    answer = await subject.post("/api/chat", {"model": subject.base, "messages": QUESTION, "think": True})

    assert answer.status_code == 400
    assert answer.json()["error"] == f'"{subject.base}" does not support thinking'


async def test_thinking_may_be_ruled_out(subject: Subject) -> None:
    assert await subject.said(subject.base, think=False) == await subject.said(subject.base)


async def test_tools_are_refused_of_a_model_whose_template_has_none(subject: Subject) -> None:
    answer = await subject.post("/api/chat", {"model": subject.base, "messages": QUESTION, "tools": [TOOL]})

    assert answer.status_code == 400
    assert answer.json()["error"].endswith("does not support tools")


async def test_tools_are_taken_when_the_template_has_them(subject: Subject) -> None:
    template = "{{ if .Tools }}{{ .Tools }}{{ end }}{{ range .Messages }}{{ .Content }}{{ end }}"
    await subject.client.create(model=subject.name("tools"), from_=subject.base, template=template)

    assert "tools" in ((await subject.client.show(subject.name("tools"))).capabilities or [])
    assert await subject.said(subject.name("tools"), tools=[TOOL])


async def test_too_long_a_chat_loses_its_oldest_messages_in_silence(subject: Subject) -> None:
    long = [{"role": "user", "content": "word " * 300}, {"role": "assistant", "content": "ok"}] * 8

    answer = await subject.post(
        "/api/chat",
        {"model": subject.base, "messages": [*long, *QUESTION], "stream": False, "options": {**FEW, "num_ctx": 512}},
    )

    assert answer.status_code == 200
    assert answer.json()["prompt_eval_count"] <= 512


async def test_a_caller_that_hangs_up_frees_the_model(subject: Subject) -> None:
    endless = {"model": subject.base, "messages": QUESTION, "options": {"num_predict": -1, "temperature": 2.0}}

    async with subject.http.stream("POST", "/api/chat", json=endless) as answer:
        async for _ in answer.aiter_lines():
            break

    assert await subject.said(subject.base)
    await subject.unload(subject.base)
