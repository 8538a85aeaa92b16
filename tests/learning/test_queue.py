from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from supervisor.adapters.store import AdapterStore
from supervisor.distill.job import DistillJob
from supervisor.errors import DistillError, NoSuchEntry
from supervisor.journal.journal import Journal, open_journal
from supervisor.journal.records import NewFeedback
from supervisor.learning.queue import JobBuilder, training_for, with_hindsight
from supervisor.plan.decide import PUBLISHED_RECIPE, TINY_RECIPE, decide
from supervisor.plan.plan import Plan, Recipe
from tests.adapters.versions import made
from tests.journal.samples import ADAPTER, completion, feedback, taught
from tests.plan.machines import machine, model, settings

pytestmark = pytest.mark.anyio

STAMP = "[Fri 2026-11-20 08:25 UTC] "
INTERNAL = "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>\nnone\n<<<END_OPENCLAW_INTERNAL_CONTEXT>>>"
NOTE = '(Note from someone who read an earlier reply to this message: "no emojis, please"'


@dataclass(frozen=True)
class Room:
    journal: Journal
    adapters: AdapterStore
    out: Path

    async def job(self, *items: Any, **training: Any) -> DistillJob:
        """The job of a lesson on this feedback."""
        lesson = await taught(self.journal, *items, **training)
        return await JobBuilder(self.journal, self.adapters, plan()).build(lesson, self.out, model().trains_on)


def plan() -> Plan:
    """On the model that the samples were written by."""
    return decide(machine(), settings(), replace(model(), name="tiny-chat"))


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    async with open_journal(f"sqlite:///{tmp_path}/journal.db") as journal:
        yield Room(journal, AdapterStore(tmp_path / "adapters"), tmp_path / "out")


async def test_a_job_says_what_to_train_on_what(room: Room) -> None:
    job = await room.job()

    assert (job.base, job.base_gguf) == (model().trains_on, model().gguf)
    assert (job.parent, job.out, job.threads) == (None, room.out, 4)
    assert (job.training.updates, job.lora.r) == (TINY_RECIPE.updates, TINY_RECIPE.lora_r)
    assert job.training.max_prompt_tokens == 1024


async def test_a_recorded_reply_is_taught_as_it_was_made(room: Room) -> None:
    said = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": f"{STAMP}And of Spain?"},
        {"role": "user", "content": INTERNAL},
    ]
    reply = {"role": "assistant", "content": "Madrid 🎉", "reasoning_content": "Easy."}
    tools = [{"type": "function", "function": {"name": "look"}}]
    one = completion(messages=said, reply=reply, request={"messages": said, "tools": tools})
    await room.journal.add_completion(one)

    (sample,) = (await room.job(feedback(completion_id=one.id))).samples

    assert [message["content"] for message in sample.messages] == ["Be kind.", "And of Spain?"]
    assert sample.reply == reply
    assert sample.tools == tuple(tools)
    assert sample.closed


async def test_the_teacher_reads_the_feedback_where_the_person_spoke_last(room: Room) -> None:
    one = completion()
    await room.journal.add_completion(one)

    (sample,) = (await room.job(feedback(completion_id=one.id))).samples

    assert sample.messages[-1]["content"] == "What is the capital of France?"
    assert sample.hindsight[-1]["content"].startswith(f"What is the capital of France?\n\n{NOTE}")
    assert sample.hindsight[:-1] == sample.messages[:-1]


async def test_feedback_by_text_finds_the_reply_it_is_about(room: Room) -> None:
    one = completion("Paris 🗼", messages=[{"role": "user", "content": f"{STAMP}Capital?"}])
    await room.journal.add_completion(one)

    (sample,) = (await room.job(feedback(prompt="Capital?", response="Paris 🗼"))).samples

    assert sample.messages == ({"role": "user", "content": "Capital?"},)
    assert sample.reply == {"role": "assistant", "content": "Paris 🗼"}


async def test_feedback_on_a_reply_made_elsewhere_is_taken_as_told(room: Room) -> None:
    (sample,) = (await room.job(feedback(prompt="hi", response="hello 👋"))).samples

    assert sample.messages == ({"role": "user", "content": "hi"},)
    assert sample.reply == {"role": "assistant", "content": "hello 👋"}
    assert sample.closed


@pytest.mark.parametrize(
    ("reason", "closed"), [("stop", True), ("tool_calls", True), ("length", False), ("cancelled", False), (None, False)]
)
async def test_the_end_of_a_reply_is_taught_only_if_the_model_ended_it(
    room: Room, reason: str | None, closed: bool
) -> None:
    one = completion(finish_reason=reason)
    await room.journal.add_completion(one)

    (sample,) = (await room.job(feedback(completion_id=one.id))).samples

    assert sample.closed is closed


@pytest.mark.parametrize(
    ("known", "count"),
    [
        ({}, 3),
        ({"usage": None}, None),
        ({"usage": None, "timings": {"predicted_n": 7}}, 7),
        ({"request": {"n": 2}}, None),  # the count is that of both
    ],
)
async def test_a_lesson_knows_how_many_tokens_the_engine_counted(
    room: Room, known: dict[str, Any], count: int | None
) -> None:
    one = completion(**known)
    await room.journal.add_completion(one)

    (sample,) = (await room.job(feedback(completion_id=one.id))).samples

    assert sample.reply_tokens == count


@pytest.mark.parametrize(
    ("request_said", "template"),
    [
        ({"think": False}, {"enable_thinking": False}),
        (
            {"chat_template_kwargs": {"enable_thinking": False, "date": "today"}},
            {"enable_thinking": False, "date": "today"},
        ),
        ({"think": "high"}, {}),
    ],
)
async def test_a_lesson_renders_chats_with_what_the_request_told_the_template(
    room: Room, request_said: dict[str, Any], template: dict[str, Any]
) -> None:
    one = completion(request=request_said)
    await room.journal.add_completion(one)

    (sample,) = (await room.job(feedback(completion_id=one.id))).samples

    assert sample.template == template


async def test_a_lesson_goes_on_from_the_version_that_serves(room: Room) -> None:
    first, _second = made(room.adapters), made(room.adapters)
    room.adapters.promote(ADAPTER, "v0001")

    assert (await room.job()).parent == first.folder


@pytest.mark.parametrize(("version", "found"), [("v0001", True), ("v0007", False), (None, False)])
async def test_a_reply_is_weighed_by_the_version_that_wrote_it(room: Room, version: str | None, found: bool) -> None:
    folder = made(room.adapters).folder
    one = completion(version=version)
    await room.journal.add_completion(one)

    (sample,) = (await room.job(feedback(completion_id=one.id))).samples

    assert sample.behaviour == (folder if found else None)


async def test_samples_are_in_the_order_of_the_feedback(room: Room) -> None:
    job = await room.job(*(feedback(prompt=str(number), response="x") for number in range(4)))

    assert [sample.messages[0]["content"] for sample in job.samples] == ["0", "1", "2", "3"]


async def test_what_the_caller_wants_goes_over_the_recipe(room: Room) -> None:
    job = await room.job(learning_rate=2e-4, teacher_mode="self", alpha=None)

    assert job.training.learning_rate == 2e-4
    assert job.training.teacher_mode == "self"
    assert job.training.alpha == TINY_RECIPE.alpha


@pytest.mark.parametrize("recipe", [TINY_RECIPE, PUBLISHED_RECIPE])
def test_the_base_model_holds_every_lesson_back_unless_told_otherwise(recipe: Recipe) -> None:
    assert training_for({}, replace(plan(), recipe=recipe)).kl_reg_weight > 0
    assert training_for({"kl_reg_weight": 0.0}, replace(plan(), recipe=recipe)).kl_reg_weight == 0


@pytest.mark.parametrize(
    ("context", "wish", "kept"),
    [(2048, {}, 1024), (131072, {}, 4096), (131072, {"max_prompt_tokens": 9000}, 9000), (100, {}, 64)],
)
def test_a_lesson_reads_half_the_context_as_long_as_that_fits_in_memory(
    context: int, wish: dict[str, Any], kept: int
) -> None:
    assert training_for(wish, replace(plan(), context=context)).max_prompt_tokens == kept


@pytest.mark.parametrize(
    ("wish", "problem"),
    [
        ({"alpha": 1.5}, "training value alpha=1.5: Input should be less than or equal to 1"),
        ({"learning_rate": 0}, "training value learning_rate=0: Input should be greater than 0"),
        ({"teacher_mode": "remote"}, "training value teacher_mode='remote': Input should be 'self'"),
        ({"support": "both"}, "training value support='both': Input should be 'teacher' or 'student'"),
        ({"optimizer": "sgd"}, "training value optimizer='sgd': Extra inputs are not permitted"),
    ],
)
def test_a_value_out_of_range_is_named(wish: dict[str, Any], problem: str) -> None:
    with pytest.raises(DistillError) as error:
        training_for(wish, plan())

    assert str(error.value) == problem


def test_a_conversation_without_a_person_has_nothing_to_give_feedback_on() -> None:
    with pytest.raises(DistillError, match="no user message"):
        with_hindsight([{"role": "system", "content": "Be kind."}], "no emojis")


async def test_tool_results_after_the_question_stay_behind_it() -> None:
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": "", "tool_calls": [{"id": "c1"}]},
        {"role": "tool", "content": "21 °C", "tool_call_id": "c1"},
    ]

    told = with_hindsight(messages, "in Fahrenheit")

    assert "in Fahrenheit" in told[0]["content"]
    assert told[1:] == tuple(messages[1:])


async def test_a_picture_cannot_be_taught_yet_and_says_so(room: Room) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:"}}
    one = completion(messages=[{"role": "user", "content": [picture]}])
    await room.journal.add_completion(one)

    with pytest.raises(DistillError, match="image_url"):
        await room.job(feedback(completion_id=one.id))


async def test_a_lesson_without_feedback_or_of_an_unknown_reply_is_refused(room: Room) -> None:
    lesson = await taught(room.journal)

    with pytest.raises(DistillError, match="les-nothing has no feedback"):
        await JobBuilder(room.journal, room.adapters, plan()).build(
            lesson.model_copy(update={"id": "les-nothing"}), room.out, model().trains_on
        )
    with pytest.raises(NoSuchEntry):
        await room.job(feedback(completion_id="cmpl-nothing"))


async def test_a_model_that_cannot_be_taught_says_why(room: Room) -> None:
    lesson = await taught(room.journal, feedback())
    experts = replace(plan(), model=replace(model(), name="m", lessons="a mixture of experts"))

    with pytest.raises(DistillError, match="m cannot be taught: a mixture of experts"):
        await JobBuilder(room.journal, room.adapters, experts).build(lesson, room.out, Path("/weights"))


async def test_a_lesson_on_one_file_trains_on_what_serves(room: Room, tmp_path: Path) -> None:
    weights = tmp_path / "sha256-0123.gguf"
    weights.touch()

    job = await JobBuilder(room.journal, room.adapters, plan()).build(
        await taught(room.journal, feedback()), room.out, weights
    )

    assert (job.base, job.base_gguf) == (weights, weights)


async def test_a_reply_of_another_model_is_not_taught_to_this_one(room: Room) -> None:
    one = completion(base="other", version=None)
    await room.journal.add_completion(one)

    with pytest.raises(DistillError, match="was written by other, and tiny-chat is the one that learns"):
        await room.job(feedback(completion_id=one.id))


async def learned(room: Room, parent: str | None, *items: NewFeedback) -> str:
    """The version that a lesson on this feedback made, and that now serves."""
    lesson = await taught(room.journal, *items)
    version = made(room.adapters, lesson_id=lesson.id, parent=parent).manifest.version
    room.adapters.promote(ADAPTER, version)
    return version


async def test_a_lesson_repeats_some_of_what_was_learned_before(room: Room) -> None:
    first = await learned(room, None, *[feedback(text=f"first {number}") for number in range(3)])
    await learned(room, first, *[feedback(text=f"second {number}") for number in range(3)])

    job = await room.job(feedback(text="new"))

    assert [words in str(job.samples[0].hindsight) for words in ("new", "first")] == [True, False]
    assert len({sample.id for sample in job.samples}) == 1 + TINY_RECIPE.replay


async def test_an_interrupted_lesson_repeats_the_same_again(room: Room) -> None:
    await learned(room, None, *[feedback(text=f"first {number}") for number in range(9)])
    lesson = await taught(room.journal)
    builder = JobBuilder(room.journal, room.adapters, plan())

    jobs = [await builder.build(lesson, room.out, model().trains_on) for _ in range(2)]

    assert jobs[0].samples == jobs[1].samples


async def test_what_was_undone_is_not_repeated(room: Room) -> None:
    first = await learned(room, None, feedback(text="kept"))
    await learned(room, first, feedback(text="undone"))
    room.adapters.promote(ADAPTER, first)

    job = await room.job(feedback(text="new"))

    told = str([sample.hindsight for sample in job.samples])
    assert [words in told for words in ("kept", "undone")] == [True, False]


async def test_what_can_be_read_no_more_is_left_out(room: Room) -> None:
    one = completion(base="another model")
    await room.journal.add_completion(one)
    await learned(room, None, feedback(completion_id=one.id))

    assert len((await room.job(feedback(prompt="hi", response="hello"))).samples) == 1


async def test_a_recipe_without_replay_repeats_nothing(room: Room) -> None:
    await learned(room, None, feedback(text="kept"))
    lesson = await taught(room.journal)
    calm = replace(plan(), recipe=PUBLISHED_RECIPE)

    job = await JobBuilder(room.journal, room.adapters, calm).build(lesson, room.out, model().trains_on)

    assert len(job.samples) == 1
