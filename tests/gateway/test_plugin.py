"""Our plugin in the real gateway: what the model is shown, and what feedback becomes."""

from collections.abc import Sized

import anyio
import pytest

from tests.fakes.learning import GATHERING
from tests.gateway.world import TOKENS, World

pytestmark = [pytest.mark.anyio, pytest.mark.openclaw]

SYSTEM = {"role": "system", "content": "You are a helpful assistant."}


@pytest.fixture(autouse=True)
def forgetful(world: World) -> None:
    """Each test starts with nothing asked and nothing posted."""
    world.model.asked.clear()
    world.learning.posted.clear()
    world.learning.answer = (202, GATHERING)


async def chat_send(world: World, text: str, *, key: str, session: str = "agent:main:main") -> None:
    """A message the way the control UI sends it."""
    params = f'{{"sessionKey":"{session}","message":"{text}","idempotencyKey":"{key}"}}'
    await world.cli("gateway", "call", "chat.send", "--params", params)


async def seen(things: Sized, count: int = 1) -> None:
    with anyio.fail_after(120):
        while len(things) < count:  # noqa: ASYNC110 - the other side is a process that announces nothing
            await anyio.sleep(0.05)


async def test_a_small_model_reads_what_was_written_and_nothing_else(world: World) -> None:
    first = await world.say("What is tea?", "lean")
    await world.say("And coffee?", "lean")

    body = world.model.asked[-1].body
    assert body["model"] == "openclaw/assistant"
    assert world.model.asked[-1].messages == [
        SYSTEM,
        {"role": "user", "content": "What is tea?"},
        {"role": "assistant", "content": first},
        {"role": "user", "content": "And coffee?"},
    ]
    assert "tools" not in body
    assert world.model.asked[-1].headers["authorization"] == f"Bearer {TOKENS.api}"


async def test_the_control_ui_adds_nothing_either(world: World) -> None:
    await chat_send(world, "What is rain?", key="rain")
    await seen(world.model.asked)

    assert world.model.asked[-1].messages[-1] == {"role": "user", "content": "What is rain?"}


async def test_feedback_reaches_our_api_with_the_turn_it_is_about(world: World) -> None:
    reply = await world.say("What is a cat?", "feedback")

    answer = await world.say("/feedback no emojis, please", "feedback")

    (posted,) = world.learning.posted
    wanted = {"prompt": "What is a cat?", "response": reply, "feedback": "no emojis, please"}
    assert posted.body == {"lora_id": "openclaw/assistant", **wanted}
    assert posted.query == {"wait": "false"}
    assert posted.authorization == f"Bearer {TOKENS.api}"
    assert "no emojis, please" in answer
    assert "1 of 4" in answer


async def test_feedback_is_no_turn_of_the_model_and_not_in_its_history(world: World) -> None:
    await world.say("What is a dog?", "history")
    await world.say("/feedback shorter", "history")
    await world.say("And a wolf?", "history")

    assert len(world.model.asked) == 2
    assert [m["content"] for m in world.model.asked[-1].messages if m["role"] == "user"] == [
        "What is a dog?",
        "And a wolf?",
    ]


async def test_feedback_works_in_the_control_ui(world: World) -> None:
    session = "agent:main:browser"
    await chat_send(world, "What is snow?", key="snow", session=session)
    await seen(world.model.asked)
    reply = "You said 2 things; hello! 😀"

    await chat_send(world, "/feedback warmer", key="warmer", session=session)
    await seen(world.learning.posted)
    await chat_send(world, "What is ice?", key="ice", session=session)
    await seen(world.model.asked, 2)

    assert world.learning.posted[0].body["prompt"] == "What is snow?"
    assert world.learning.posted[0].body["response"] == reply
    assert [m["content"] for m in world.model.asked[-1].messages] == [
        SYSTEM["content"],
        "What is snow?",
        reply,
        "What is ice?",
    ]


async def test_feedback_given_while_a_reply_still_comes_waits_for_it_and_costs_it_nothing(world: World) -> None:
    session = "agent:main:hasty"
    world.model.hold = anyio.Event()
    await chat_send(world, "What is steam?", key="steam", session=session)
    await seen(world.model.asked)
    await chat_send(world, "/feedback shorter", key="hasty", session=session)
    world.model.hold.set()
    await seen(world.learning.posted)
    world.model.hold = None
    await chat_send(world, "What is soot?", key="soot", session=session)
    await seen(world.model.asked, 2)

    (posted,) = world.learning.posted
    assert posted.body["prompt"] == "What is steam?"
    assert world.model.asked[-1].messages[2] == {"role": "assistant", "content": posted.body["response"]}


async def test_feedback_is_about_the_conversation_it_stands_in(world: World) -> None:
    await world.say("What is iron?", "smith")
    await world.say("What is bread?", "baker")

    await world.say("/feedback simpler", "smith")

    assert world.learning.posted[0].body["prompt"] == "What is iron?"


async def test_feedback_twice_is_about_the_same_reply(world: World) -> None:
    await world.say("What is a boat?", "twice")

    await world.say("/feedback shorter", "twice")
    await world.say("/feedback and friendlier", "twice")

    assert [posted.body["prompt"] for posted in world.learning.posted] == ["What is a boat?"] * 2


@pytest.mark.parametrize("text", ["/feedback", "/feedback   "])
async def test_feedback_without_a_text_explains_itself(world: World, text: str) -> None:
    await world.say("What is a tree?", "usage")

    assert "/feedback no emojis, please" in await world.say(text, "usage")
    assert world.learning.posted == []


async def test_feedback_before_any_reply_says_so(world: World) -> None:
    assert "no reply of mine" in await world.say("/feedback shorter", "nothing-yet")
    assert world.learning.posted == []


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (401, {"error": {"message": "no"}}, "refused my token"),
        (503, {"error": {"message": "the journal is full"}}, "503: the journal is full"),
        (422, {"detail": [{"msg": "bad"}]}, "422"),
    ],
)
async def test_a_refusal_of_our_api_is_told_in_the_chat(
    world: World, status: int, body: dict[str, object], said: str
) -> None:
    await world.say("What is sand?", "refused")
    world.learning.answer = (status, body)

    answer = await world.say("/feedback shorter", "refused")

    assert said in answer
    assert "could not note" in answer


async def test_a_lesson_that_starts_is_announced(world: World) -> None:
    await world.say("What is fog?", "queued")
    world.learning.answer = (202, {**GATHERING, "status": "queued", "pending": 4})

    assert "on its way" in await world.say("/feedback shorter", "queued")


async def test_lessons_are_listed(world: World) -> None:
    world.learning.lessons = [
        {"id": "b", "state": "running", "feedback_count": 4, "progress": 0.43, "version": None, "error": None},
        {"id": "a", "state": "done", "feedback_count": 1, "progress": 1.0, "version": "v0001", "error": None},
    ]

    answer = await world.say("/lessons", "lessons")

    assert "learning from 4 notes: 43 %" in answer
    assert "learned from 1 note: version v0001" in answer


async def test_the_last_reply_is_known_after_a_restart(world: World) -> None:
    await world.say("What is wind?", "restart")
    with anyio.fail_after(180):
        await world.service.restart()

    await world.say("/feedback shorter", "restart")

    assert world.learning.posted[0].body["prompt"] == "What is wind?"
