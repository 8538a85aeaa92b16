"""What is being learned, and what was."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import Response

from supervisor.adapters.store import base_name
from supervisor.api.context import ApiContext
from supervisor.api.sse import Emit, EventStream
from supervisor.errors import RequestError

Limit = Annotated[int, Query(ge=1, le=1000)]


def lesson_routes(context: ApiContext) -> APIRouter:
    router = APIRouter(tags=["learning"])
    journal = context.journal

    @router.get("/v1/lessons")
    async def lessons(limit: Limit = 20, adapter: str | None = None) -> dict[str, Any]:
        """The newest lessons, newest first."""
        found = await journal.lessons(limit, adapter=base_name(adapter) if adapter else None)
        return {"lessons": [lesson.model_dump(mode="json") for lesson in found], "batch_size": context.batch_size}

    @router.get("/v1/lessons/{lesson_id}")
    async def lesson(lesson_id: str) -> dict[str, Any]:
        """One lesson with its feedback."""
        found = await journal.lesson(lesson_id)
        feedback = [item.model_dump(mode="json") for item in await journal.feedback_of(lesson_id)]
        return found.model_dump(mode="json") | {"feedback": feedback}

    @router.get("/v1/lessons/{lesson_id}/events")
    async def events(lesson_id: str) -> Response:
        """The lesson as it changes: an event ``lesson`` for each change, and after its end one ``end``."""
        await journal.lesson(lesson_id)

        async def follow(emit: Emit) -> None:
            async with journal.changes() as changes:
                now = await journal.lesson(lesson_id)
                await emit("lesson", now.model_dump(mode="json"))
                while not now.ended:
                    if (await anext(changes)).id == lesson_id:
                        now = await journal.lesson(lesson_id)
                        await emit("lesson", now.model_dump(mode="json"))
                await emit("end", {"id": now.id, "state": now.state})

        return EventStream(follow)

    @router.post("/v1/lessons/{lesson_id}/start")
    async def start(lesson_id: str) -> dict[str, Any]:
        """Learn now: queue a lesson that still gathers feedback."""
        lesson = await journal.lesson(lesson_id)
        if lesson.ended:
            raise RequestError(
                409, f"lesson {lesson_id} has ended ({lesson.state}); send the feedback again for another"
            )
        queued = await journal.queue_now(lesson_id)
        return (queued or lesson).model_dump(mode="json")

    return router
