"""The API, put together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from fastapi import FastAPI

from supervisor.api.auth import TokenRequired
from supervisor.api.body import BodyLimit
from supervisor.api.context import ApiContext
from supervisor.api.failures import NothingEscapes, handle_failures
from supervisor.api.feedback import feedback_routes
from supervisor.api.feedback_log import FeedbackLog
from supervisor.api.health import health_routes
from supervisor.api.history import history_routes
from supervisor.api.lessons import lesson_routes
from supervisor.api.lora import lora_routes
from supervisor.api.metric_routes import metric_routes
from supervisor.api.native import native_routes
from supervisor.api.proxy import proxy_routes
from supervisor.api.services import service_routes


def create_app(context: ApiContext) -> FastAPI:
    """All routes over one context. Its lifespan writes the feedback log and counts lessons."""
    feedback_log = FeedbackLog(context.feedback_log_dir, context.journal)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tg:
            tg.start_soon(feedback_log.follow)
            tg.start_soon(context.metrics.follow, context.journal)
            yield
            tg.cancel_scope.cancel()

    app = FastAPI(
        title="clawlama",
        version=context.version,
        lifespan=lifespan,
        docs_url=None,  # those pages load scripts from elsewhere
        redoc_url=None,
        strict_content_type=False,  # curl -d says "form", and means JSON
    )
    for router in (
        health_routes(context),
        proxy_routes(context),
        feedback_routes(context, feedback_log),
        lesson_routes(context),
        history_routes(context),
        lora_routes(context),
        native_routes(context),
        service_routes(context),
        metric_routes(context),
    ):
        app.include_router(router)
    handle_failures(app)
    app.add_middleware(BodyLimit)
    app.add_middleware(TokenRequired, token=context.token, also_open=["/metrics"] if context.open_metrics else [])
    app.add_middleware(NothingEscapes)  # added last: outermost
    return app
