"""Logging, set up once: our own events on stderr, as readable lines or as JSON, and from boot on in a file too."""

import logging
import sys
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import structlog

from supervisor.redact import redactor

LogFormat = Literal["auto", "text", "json"]
NAME = "clawlama"  # we, among the services
CLOCK = structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False, key="time")

Fields = MutableMapping[str, Any]


def set_up_logging(level: str = "info", log_format: LogFormat = "auto") -> None:
    """Route our events, and the standard library's warnings, to stderr."""
    json = is_json(log_format)
    number = logging.getLevelNamesMapping()[level.upper()]
    redact = redactor(())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            Threshold(number),
            structlog.processors.add_log_level,
            *(_json() if json else [CLOCK, _text(colors=sys.stderr.isatty())]),
            lambda _logger, _method, line: redact(str(line)),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),  # the file gets all; see Threshold
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=max(number, logging.WARNING), handlers=[_Library()])


def set_level(level: str) -> None:
    """Say more or less from now on; where it goes stays as it is."""
    number = logging.getLevelNamesMapping()[level.upper()]
    processors = structlog.get_config()["processors"]
    structlog.configure(processors=[Threshold(number) if isinstance(one, Threshold) else one for one in processors])


@dataclass(frozen=True)
class Threshold:
    """Lets pass what stderr is to get."""

    number: int

    def __call__(self, _logger: Any, method: str, event: Fields) -> Fields:  # noqa: ANN401 - structlog's
        if structlog.processors.NAME_TO_LEVEL[method] < self.number:
            raise structlog.DropEvent
        return event


def is_json(log_format: LogFormat) -> bool:
    """``auto``: unless a person looks on."""
    return log_format == "json" or (log_format == "auto" and not sys.stderr.isatty())


@contextmanager
def also_told(write: Callable[[str], None]) -> Iterator[None]:
    """Hand every event of ours, details too, to ``write`` while the block lasts: a readable text without a time."""
    before = structlog.get_config()["processors"]
    readable = _text(colors=False)

    def tell(logger: Any, method: str, event: Fields) -> Fields:  # noqa: ANN401 - structlog's
        write(str(readable(logger, method, {**event, "level": method})))
        return event

    structlog.configure(processors=[before[0], tell, *before[1:]])  # before the threshold
    try:
        yield
    finally:
        now = structlog.get_config()["processors"]
        structlog.configure(processors=[one for one in now if one is not tell])


class _Library(logging.Handler):
    """What libraries log becomes an event like ours."""

    def emit(self, record: logging.LogRecord) -> None:
        event = structlog.get_logger()
        event.log(record.levelno, f"{record.name}: {record.getMessage()}", exc_info=record.exc_info)


def _text(*, colors: bool) -> structlog.dev.ConsoleRenderer:
    return structlog.dev.ConsoleRenderer(
        colors=colors, pad_event_to=0, timestamp_key="time", exception_formatter=structlog.dev.plain_traceback
    )


def _json() -> list[structlog.typing.Processor]:
    return [structlog.processors.format_exc_info, _as_a_line, structlog.processors.JSONRenderer(ensure_ascii=False)]


def _as_a_line(_logger: Any, _method: str, event: Fields) -> Fields:  # noqa: ANN401 - structlog's
    """The shape that the services' lines have: ``time``, ``service``, ``line``; and our fields behind them."""
    fields = {"about" if name == "service" else name: value for name, value in event.items()}
    return {"time": stamp(), "service": NAME, "line": fields.pop("event"), **fields}


def stamp() -> str:
    """This moment as every log has it, such as 2026-11-20T12:00:00.123Z; later ones sort later."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
