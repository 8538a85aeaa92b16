"""Work for a client that may leave: when it does, the work is cancelled."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
from starlette.types import Receive

T = TypeVar("T")


async def while_present(receive: Receive, work: Callable[[], Awaitable[T]]) -> T | None:
    """The result of ``work``, or None when the client left before it was there. The body must have been read.

    What ``work`` raises is raised here.
    """
    result: T | None = None
    try:
        async with anyio.create_task_group() as tg:
            tg.start_soon(_cancel_when_gone, receive, tg.cancel_scope)
            result = await work()
            tg.cancel_scope.cancel()
    except ExceptionGroup as group:
        raise _first(group) from None
    return result


async def _cancel_when_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


def _first(exc: Exception) -> Exception:
    return _first(exc.exceptions[0]) if isinstance(exc, ExceptionGroup) else exc
