"""How everything fares, for people, for scripts and for the container's health check."""

from typing import Any

from fastapi import APIRouter

from supervisor.api.context import ApiContext
from supervisor.errors import JournalError
from supervisor.journal.journal import Journal
from supervisor.journal.records import UNDER_WAY

WELL = ("ready", "learning")


def health_routes(context: ApiContext) -> APIRouter:
    router = APIRouter(tags=["health"])

    @router.get("/health")
    @router.get("/v1/health")
    async def health() -> dict[str, Any]:
        """Always 200: ``status`` is ``healthy`` or ``degraded``, ``phase`` and ``reason`` say more.

        ``failing`` is what a container's health check goes by: why a chat turn would fail now. Empty while turns
        work, if in a degraded way, and while what they need is on its way.
        """
        stack, served = context.status(), context.engine.served
        phase, reason = stack.phase, stack.reason
        lessons, problem = await pending(context.journal)
        if problem:
            phase, reason = "degraded", problem
        status = "healthy" if phase in WELL else "degraded"
        return {
            "status": status,
            "worker": {"status": status, "error": None if status == "healthy" else reason or phase},
            "phase": phase,
            "reason": reason,
            "failing": stack.failing,
            "engine": context.engine.kind,
            "model": served.base,
            "adapter": served.adapter,
            "version": served.version,
            "lessons": lessons,
            "downloads": dict(stack.downloads),
            "services": [service.model_dump(mode="json") for service in stack.services],
        }

    @router.get("/healthz")
    async def alive() -> dict[str, str]:
        """This process answers; says nothing about the model."""
        return {"status": "alive"}

    @router.get("/")
    async def info() -> dict[str, str]:
        return {
            "name": "clawlama",
            "version": context.version,
            "description": "A private assistant that learns from what you tell it",
            "docs": "/openapi.json",
        }

    return router


async def pending(journal: Journal) -> tuple[dict[str, Any], str]:
    """Feedback that is gathered, lessons that wait, the one under way; and what is wrong with the journal, if it is."""
    try:
        open_lessons = await journal.lessons(1000, states={"gathering", "queued", *UNDER_WAY})
    except JournalError as exc:
        return {}, str(exc)
    running = next((one for one in open_lessons if one.state in UNDER_WAY), None)
    return {
        "gathering": sum(one.feedback_count for one in open_lessons if one.state == "gathering"),
        "queued": sum(one.state == "queued" for one in open_lessons),
        "running": running.model_dump(mode="json", include={"id", "state", "progress", "step"}) if running else None,
    }, ""
