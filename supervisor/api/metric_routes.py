"""GET /metrics, for Prometheus and what speaks its language.

It needs the token like the rest: behind a reverse proxy, or Docker's port forwarding, everybody seems to come from this
machine, so a caller's address proves nothing. Prometheus sends a token (``authorization: credentials_file``); for a
scraper that cannot, CLAWLAMA_OPEN_METRICS lifts it. No chat text is in any metric.
"""

import re
from collections.abc import Iterator
from itertools import chain
from typing import get_args

import anyio
import psutil
from fastapi import APIRouter, Request
from prometheus_client import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.responses import Response

from supervisor.api.context import ApiContext
from supervisor.api.metrics import Moment
from supervisor.api.status import Phase, StackStatus
from supervisor.errors import JournalError
from supervisor.host.gpu import find_gpus
from supervisor.settings.datadir import DataDir

FAR = re.compile(r"pulling (\S+) (\d+) %")  # what a pull says of itself to people


def metric_routes(context: ApiContext) -> APIRouter:
    router = APIRouter(tags=["services"])

    @router.get("/metrics")
    async def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(Both(await moment(context), context.metrics.registry)), media_type=content_type)

    return router


class Both(Collector):
    """What is looked up now, and what was counted so far."""

    def __init__(self, *parts: Collector) -> None:
        self._parts = parts

    def collect(self) -> Iterator[Metric]:
        return chain.from_iterable(part.collect() for part in self._parts)


async def moment(context: ApiContext) -> Moment:
    stack, served = context.status(), context.engine.served
    try:
        journal = await context.journal.tally()
    except JournalError:
        journal = None
    disk = psutil.disk_usage(str(context.data.root))
    return Moment(
        version=context.version,
        phase=stack.phase,
        phases=get_args(Phase),
        failing=bool(stack.failing),
        served={"model": served.base, "adapter": served.adapter, "version": served.version or "base"},
        pulls=pulls(stack),
        services=stack.services,
        journal=journal,
        journal_bytes=journal_bytes(context.data),
        disk_free=disk.free,
        disk_total=disk.total,
        gpus=(await anyio.to_thread.run_sync(find_gpus)).gpus,
    )


def pulls(stack: StackStatus) -> dict[str, float]:
    found = (FAR.match(text) for text in (stack.reason, *stack.downloads.values()))
    return {one[1]: int(one[2]) / 100 for one in found if one}


def journal_bytes(data: DataDir) -> int:
    """With SQLite's write-ahead log beside it."""
    return sum(path.stat().st_size for path in data.root.glob(f"{data.journal.name}*"))
