"""The replies that were given, as the journal has them."""

from typing import Annotated, Any

from fastapi import APIRouter, Query

from supervisor.api.context import ApiContext


def history_routes(context: ApiContext) -> APIRouter:
    router = APIRouter(tags=["journal"])
    journal = context.journal

    @router.get("/v1/journal/completions")
    async def completions(
        limit: Annotated[int, Query(ge=1, le=1000)] = 20, before: str | None = None
    ) -> dict[str, Any]:
        """The newest replies, newest first; ``before``: those older than that id."""
        found = await journal.completions(limit, before)
        return {"completions": [completion.model_dump(mode="json") for completion in found]}

    @router.get("/v1/journal/completions/{completion_id}")
    async def completion(completion_id: str) -> dict[str, Any]:
        """One reply with the exact request that made it."""
        return (await journal.completion(completion_id)).model_dump(mode="json")

    return router
