import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from supervisor.journal.journal import Journal, open_journal
from supervisor.journal.records import Lesson, LessonChanges
from tests.api.stage import ADAPTER, in_process, over_http
from tests.journal.samples import completion
from tests.journal.samples import taught as queued_lesson

pytestmark = pytest.mark.anyio
METRICS = {"total_loss": 0.5, "distill_loss": 0.4, "kl_reg": 0.1, "batch_size": 1}
TIMINGS = {"sleep": 10.4, "distill": 900.0, "save": 5.0, "publish": 4.0, "wake": 20.0, "total": 940.0}
DONE: LessonChanges = {"state": "done", "version": "v0003", "metrics": METRICS, "timing_ms": TIMINGS}


def said(feedback: str = "no emojis", **other: Any) -> dict[str, Any]:
    return {"lora_id": ADAPTER, "prompt": "hi", "response": "hello 😀", "feedback": feedback} | other


@asynccontextmanager
async def taught(journal: Journal, changes: LessonChanges) -> AsyncIterator[list[Lesson]]:
    """Someone who claims each lesson and ends it as told."""
    claimed: list[Lesson] = []

    async def teach() -> None:
        async with journal.changes() as news:
            while True:
                while lesson := await journal.claim_lesson(patience=timedelta(days=1)):
                    claimed.append(lesson)
                    await journal.update_lesson(lesson.id, progress=0.5, step="training")
                    await journal.update_lesson(lesson.id, **changes)
                await anext(news)

    async with anyio.create_task_group() as tg:
        tg.start_soon(teach)
        yield claimed
        tg.cancel_scope.cancel()


@pytest.mark.parametrize(
    "body",
    [
        {**said(), "lora_id": f"{ADAPTER}-init"},
        {**said(), "lora_id": f"{ADAPTER}-latest", "training": {"teacher_mode": "self"}},
        {
            "requests": [said(training={}), said("shorter", training={})],
            "orchestration": {"sleep_before": True, "wake_after": True, "wake_on_failure": True, "sleep_level": 1},
        },
    ],
)
async def test_the_known_forms_of_feedback_are_answered_when_learned(tmp_path: Path, body: dict[str, Any]) -> None:
    with anyio.fail_after(20):
        async with in_process(tmp_path) as stage, taught(stage.journal, DONE):
            reply = await stage.client.post("/v1/feedback", json=body)

    answer = reply.json()
    count = len(body.get("requests", [body]))
    assert reply.status_code == 200
    assert answer["status"] == "ok"
    assert answer["lora_id"] == ADAPTER
    assert answer["distill_result"] == {"lora_id": ADAPTER, "metadata": METRICS}
    assert answer["vllm"] == {"slept": True, "woke": True}
    known = {"sleep": 10, "distill": 900, "save": 5, "wake": 20, "logprobs": 0, "total": 940}
    assert answer["timing_ms"] == known | {"publish": 4}
    assert answer["batch_size"] == count
    assert (answer["state"], answer["version"]) == ("done", "v0003")


async def test_an_ended_lesson_leaves_the_file_that_older_tools_read(tmp_path: Path) -> None:
    with anyio.fail_after(20):
        async with in_process(tmp_path) as stage, taught(stage.journal, DONE):
            answer = (await stage.client.post("/v1/feedback", json=said(training={"alpha": 0.1}))).json()

    file = Path(answer["feedback_log_path"])
    record = json.loads(file.read_text())
    assert file.parent == tmp_path / "feedback"
    assert file.stat().st_mode & 0o777 == 0o600
    assert (record["request_id"], record["status"], record["phase"]) == (answer["request_id"], "ok", "done")
    assert record["timing_ms"] == answer["timing_ms"]
    assert record["distill_result"] == answer["distill_result"]
    assert record["requests"][0] == {**said(), "completion_id": None, "training": {"alpha": 0.1}}


@pytest.mark.parametrize(("state", "status"), [("failed", 500), ("rejected", 409)])
async def test_a_lesson_that_is_not_learned_says_why(tmp_path: Path, state: Any, status: int) -> None:
    with anyio.fail_after(20):
        async with in_process(tmp_path) as stage, taught(stage.journal, {"state": state, "error": "out of memory"}):
            reply = await stage.client.post("/v1/feedback", json=said())

    assert reply.status_code == status
    assert "out of memory" in reply.json()["error"]["message"]
    assert json.loads(Path(reply.json()["feedback_log_path"]).read_text())["status"] == "error"


async def test_wishes_reach_the_lesson_and_nothing_else_does(tmp_path: Path) -> None:
    wishes = {"learning_rate": 3e-5, "alpha": 0.5, "is_clip": 5.0, "support": "student", "max_reply_tokens": 99}
    body = said(training=wishes | {"teacher_mode": "self"}, orchestration={"sleep_before": False})

    with anyio.fail_after(20):
        async with in_process(tmp_path) as stage, taught(stage.journal, DONE) as lessons:
            await stage.client.post("/v1/feedback", json=body)

    assert lessons[0].training == wishes
    assert lessons[0].orchestration == {"sleep_before": False}


@pytest.mark.parametrize("where", ["query", "body"])
async def test_feedback_without_waiting_is_gathered_into_a_batch(tmp_path: Path, where: str) -> None:
    query, body = ({"wait": "false"}, said()) if where == "query" else ({}, said(wait=False))

    async with in_process(tmp_path, batch_size=2) as stage:
        replies = [await stage.client.post("/v1/feedback", json=body, params=query) for _ in range(3)]

    answers = [reply.json() for reply in replies]
    assert {reply.status_code for reply in replies} == {202}
    assert [(one["status"], one["pending"]) for one in answers] == [("gathering", 1), ("queued", 2), ("gathering", 1)]
    assert answers[0]["lesson_id"] == answers[1]["lesson_id"] != answers[2]["lesson_id"]
    assert answers[0]["events"] == f"/v1/lessons/{answers[0]['lesson_id']}/events"


async def test_feedback_is_tied_to_the_recorded_reply(tmp_path: Path) -> None:
    given = completion("<think>x</think>Paris 🗼")
    by_text = {"lora_id": ADAPTER, "response": "Paris 🗼", "feedback": "no emojis"}
    by_id = {"lora_id": ADAPTER, "completion_id": given.id, "feedback": "shorter"}

    async with in_process(tmp_path, batch_size=2) as stage:
        await stage.journal.add_completion(given)
        for body in (by_text, by_id):
            answer = (await stage.client.post("/v1/feedback?wait=false", json=body)).json()
        kept = await stage.journal.feedback_of(answer["lesson_id"])

    assert [one.completion_id for one in kept] == [given.id, given.id]
    assert (kept[1].prompt, kept[1].response) == ("What is the capital of France?", "Paris 🗼")


async def test_a_caller_who_leaves_loses_nothing(tmp_path: Path) -> None:
    with anyio.fail_after(20):
        async with over_http(tmp_path) as stage:
            async with anyio.create_task_group() as tg, stage.journal.changes() as changes:
                tg.start_soon(lambda: stage.client.post("/v1/feedback", json=said()))
                await anext(changes)
                tg.cancel_scope.cancel()
            lesson = await stage.journal.claim_lesson(patience=timedelta(days=1))

    assert lesson
    assert lesson.feedback_count == 1


async def test_a_lesson_that_takes_too_long_goes_on_without_its_caller(tmp_path: Path) -> None:
    with anyio.fail_after(20):
        async with in_process(tmp_path, lesson_timeout_s=0.1) as stage:
            reply = await stage.client.post("/v1/feedback", json=said())
            lesson = await stage.journal.lesson(reply.json()["lesson_id"])

    assert reply.status_code == 504
    assert "instead of sending it again" in reply.json()["detail"]
    assert lesson.state == "queued"


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (said(feedback="  "), 422, "feedback: "),
        (said(response=" "), 422, 'give "response"'),
        (said(training={"teacher_mode": "remote"}), 422, "the teacher is always the model itself"),
        (said(training={"learning_rate": 0}), 422, "training.learning_rate: "),
        (said(training={"alpha": 1.5}), 422, "training.alpha: Input should be less than or equal to 1 (got 1.5)"),
        (said(training={"is_clip": 0.5}), 422, "training.is_clip"),
        (said(training={"max_grad_norm": -1}), 422, "training.max_grad_norm"),
        (said(training={"kl_reg_weight": 2}), 422, "training.kl_reg_weight"),
        (said(training={"teacher_top_k": 5}), 422, "training.teacher_top_k"),
        (said(training={"updates": 65}), 422, "training.updates"),
        (said(training={"lr": 1}), 422, "training.lr: Extra inputs are not permitted"),
        (said(mood="bad"), 422, "mood: Extra inputs are not permitted"),
        (said(orchestration={"sleep_level": 3}), 422, "orchestration.sleep_level"),
        ({"requests": []}, 422, "requests: "),
        ({"requests": [said(), said(lora_id="someone/else")]}, 422, "a batch teaches one adapter"),
        ({"requests": [said(), said(training={"alpha": 0.1})]}, 422, "one training"),
        (said(lora_id="someone/else-latest"), 404, "adapter 'someone/else' is not served here"),
        (said(completion_id="cmpl-gone"), 404, "cmpl-gone"),
        ({"lora_id": ADAPTER, "response": "never said", "feedback": "x"}, 422, '"prompt" is needed too'),
        ([1, 2], 422, "the body: "),
    ],
)
async def test_feedback_that_cannot_be_used_is_refused_clearly_and_not_kept(
    tmp_path: Path, body: Any, status: int, message: str
) -> None:
    async with in_process(tmp_path) as stage:
        reply = await stage.client.post("/v1/feedback", json=body)

        assert (reply.status_code, message in reply.json()["detail"]) == (status, True), reply.text
        assert await stage.journal.lessons(10) == []


async def test_a_lessons_progress_can_be_followed_to_its_end(tmp_path: Path) -> None:
    with anyio.fail_after(20):
        async with over_http(tmp_path) as stage:
            lesson_id = (await stage.client.post("/v1/feedback?wait=false", json=said())).json()["lesson_id"]
            seen = []
            async with stage.client.stream("GET", f"/v1/lessons/{lesson_id}/events") as events:
                lines = events.aiter_lines()
                assert await anext(lines) == "event: lesson"
                seen.append(json.loads((await anext(lines))[6:])["state"])
                async with taught(stage.journal, DONE):
                    await stage.client.post(f"/v1/lessons/{lesson_id}/start")
                    seen += [json.loads(line[6:])["state"] async for line in lines if line.startswith("data: ")]

    assert seen[0] == "gathering"
    assert seen[-2:] == ["done", "done"]


async def test_lessons_can_be_listed_read_and_started(tmp_path: Path) -> None:
    async with in_process(tmp_path) as stage:
        lesson_id = (await stage.client.post("/v1/feedback?wait=false", json=said())).json()["lesson_id"]
        listed = (await stage.client.get("/v1/lessons", params={"adapter": f"{ADAPTER}-latest"})).json()
        one = (await stage.client.get(f"/v1/lessons/{lesson_id}")).json()
        started = await stage.client.post(f"/v1/lessons/{lesson_id}/start")
        await stage.journal.update_lesson(lesson_id, state="done")
        again = await stage.client.post(f"/v1/lessons/{lesson_id}/start")

    assert [lesson["id"] for lesson in listed["lessons"]] == [lesson_id]
    assert one["feedback"][0]["text"] == "no emojis"
    assert started.json()["state"] == "queued"
    assert again.status_code == 409


async def test_lessons_that_ended_while_the_api_was_down_are_logged_when_it_is_back(tmp_path: Path) -> None:
    async with open_journal(f"sqlite:///{tmp_path}/journal.db") as journal:
        lesson = await queued_lesson(journal)
        await journal.update_lesson(lesson.id, state="failed", error="why not")

    async with in_process(tmp_path):
        with anyio.fail_after(10):
            while not list((tmp_path / "feedback").glob(f"*-{lesson.id}.json")):  # noqa: ASYNC110 - a file appears
                await anyio.sleep(0.01)
