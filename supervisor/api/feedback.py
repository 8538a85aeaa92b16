"""POST /v1/feedback: a person's words go into the journal with a lesson. Learning itself is not done here."""

from typing import Any

import anyio
from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from supervisor.adapters.store import base_name
from supervisor.api.context import ApiContext
from supervisor.api.failures import failure_body
from supervisor.api.feedback_log import FeedbackLog, lesson_outcome
from supervisor.api.presence import while_present
from supervisor.api.teaching import FeedbackBody, FeedbackItem
from supervisor.errors import RequestError
from supervisor.journal.journal import Journal
from supervisor.journal.records import Completion, Lesson, NewFeedback
from supervisor.journal.visible import content_text, visible_text


def feedback_routes(context: ApiContext, feedback_log: FeedbackLog) -> APIRouter:
    router = APIRouter(tags=["learning"])

    @router.post("/v1/feedback")
    async def feedback(request: Request, body: FeedbackBody, wait: bool | None = None) -> JSONResponse:
        """Teach: answers when the lesson has ended, or with ``wait=false`` at once and gathers a batch first.

        Once this has been read, a caller who leaves or runs out of patience loses nothing: the lesson goes on.
        """
        waits = body.wait if wait is None else wait
        lesson = await context.journal.add_feedback(
            [await known_feedback(context, item) for item in body.items],
            training=body.items[0].training.overrides(),
            orchestration=body.orchestration.model_dump(exclude_none=True),
            gather=not waits,
            batch_size=context.batch_size,
        )
        if not waits:
            return JSONResponse(receipt(lesson, context.batch_size), 202)
        with anyio.move_on_after(context.lesson_timeout_s):
            ended = await while_present(request.receive, lambda: end_of(context.journal, lesson.id))
            if ended is None:  # the caller left; nobody reads this
                return JSONResponse(receipt(lesson, context.batch_size), 202)
            return await answer(ended, len(body.items), feedback_log)
        return JSONResponse(still_running(lesson, context), 504)

    return router


async def known_feedback(context: ApiContext, item: FeedbackItem) -> NewFeedback:
    """Feedback tied to the recorded reply that it is about. RequestError when it cannot be about one of ours."""
    adapter = served_adapter(context, item.lora_id)
    completion = await find(context.journal, adapter, item)
    if completion is None and not (item.prompt or "").strip():
        raise RequestError(422, 'this reply is not in the journal, so its "prompt" is needed too')
    if completion is not None and completion.adapter != adapter:
        raise RequestError(422, f"completion {completion.id} was made by {completion.adapter!r}, not by {adapter!r}")
    return NewFeedback(
        adapter=adapter,
        text=item.feedback,
        completion_id=completion.id if completion else None,
        prompt=item.prompt if item.prompt or completion is None else last_words(completion),
        response=item.response if item.response or completion is None else seen(completion),
    )


async def find(journal: Journal, adapter: str, item: FeedbackItem) -> Completion | None:
    if item.completion_id is not None:
        return await journal.completion(item.completion_id)
    return await journal.find_completion(adapter, item.prompt, item.response or "")


def served_adapter(context: ApiContext, lora_id: str) -> str:
    """The adapter's name without the endings that older clients add. RequestError (404) unless it is served."""
    name, served = base_name(lora_id), context.engine.served.adapter
    if name != base_name(served):
        raise RequestError(
            404, f"adapter {name!r} is not served here, {served!r} is; send that, or start with CLAWLAMA_ADAPTER={name}"
        )
    return served


async def end_of(journal: Journal, lesson_id: str) -> Lesson:
    async with journal.changes() as changes:
        lesson = await journal.lesson(lesson_id)
        while not lesson.ended:
            if (await anext(changes)).id == lesson_id:
                lesson = await journal.lesson(lesson_id)
    return lesson


async def answer(lesson: Lesson, count: int, feedback_log: FeedbackLog) -> JSONResponse:
    """What the caller who waited is told of an ended lesson."""
    outcome = {
        "status": "ok" if lesson.state == "done" else "error",
        **lesson_outcome(lesson),
        "feedback_log_path": await feedback_log.write(lesson),
        "batch_size": count,
        "lesson_id": lesson.id,
        "state": lesson.state,
        "version": lesson.version,
    }
    if lesson.state == "done":
        return JSONResponse(outcome)
    status = 409 if lesson.state == "rejected" else 500
    return JSONResponse(outcome | failure_body(status, f"lesson {lesson.id} {lesson.state}: {lesson.error}"), status)


def receipt(lesson: Lesson, batch_size: int) -> dict[str, Any]:
    return {
        "lesson_id": lesson.id,
        "status": lesson.state,
        "pending": lesson.feedback_count,
        "batch_size": batch_size,
        "events": events_path(lesson.id),
    }


def still_running(lesson: Lesson, context: ApiContext) -> dict[str, Any]:
    message = (
        f"lesson {lesson.id} takes longer than {context.lesson_timeout_s:g} s; it goes on, the feedback is kept: "
        f"follow {events_path(lesson.id)} instead of sending it again"
    )
    return receipt(lesson, context.batch_size) | failure_body(504, message)


def events_path(lesson_id: str) -> str:
    return f"/v1/lessons/{lesson_id}/events"


def last_words(completion: Completion) -> str:
    """What the user said last before this reply."""
    said = (content_text(one.get("content")) for one in reversed(completion.messages) if one.get("role") == "user")
    return next(said, "")


def seen(completion: Completion) -> str:
    return visible_text(content_text(completion.reply.get("content")))
