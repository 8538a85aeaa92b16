"""The ways in which a service says that it serves; ``probe`` has the one that asks it."""

import asyncio
import os
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import anyio

from supervisor.services.output import Output

BLOCK = 4096  # bytes

Probe = Callable[[], Awaitable[None]]
"""Returns once the service answers; the caller owns the patience."""


@dataclass(frozen=True)
class SaysLine:
    """Ready once a whole line of its output holds the pattern."""

    pattern: re.Pattern[str]


@dataclass(frozen=True)
class WritesNewline:
    """Ready once it has written a newline to the descriptor whose number stands in this variable, as s6 does it."""

    variable: str = "CLAWLAMA_READY_FD"


@dataclass(frozen=True)
class EndsWell:
    """A one-shot: ready, and done, once it has ended with exit code 0."""


Readiness = Probe | SaysLine | WritesNewline | EndsWell


@dataclass(frozen=True)
class Liveness:
    """Asked while it serves. So many misses in a row and its process is replaced; one miss shows in its status."""

    answers: Probe
    every: float = 15.0  # seconds between two questions
    within: float = 10.0  # seconds for an answer
    misses: int = 4


@dataclass(frozen=True)
class Armed:
    """Attention to one start. ``descriptors``: what the process needs for it, by the variable that tells the number."""

    ready: Probe
    descriptors: Mapping[str, int] = field(default_factory=dict)


@contextmanager
def armed(how: Readiness, output: Output) -> Iterator[Armed]:
    """Enter it before the process is started, so that nothing it says is missed."""
    match how:
        case SaysLine(pattern):
            with _line_said(pattern, output) as said:
                yield Armed(said.wait)
        case WritesNewline(variable):
            with _newline_written() as (written, descriptor):
                yield Armed(written.wait, {variable: descriptor})
        case EndsWell():
            yield Armed(anyio.sleep_forever)
        case _:
            yield Armed(how)


@contextmanager
def _line_said(pattern: re.Pattern[str], output: Output) -> Iterator[anyio.Event]:
    said = anyio.Event()

    def listen(lines: Sequence[str]) -> None:
        if any(map(pattern.search, lines)):
            said.set()

    output.listeners.append(listen)
    try:
        yield said
    finally:
        output.listeners.remove(listen)


@contextmanager
def _newline_written() -> Iterator[tuple[anyio.Event, int]]:
    """We hold the other end, too: a process that closes its own is not ready, and one that goes on writing lives on."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    loop = asyncio.get_running_loop()
    written = anyio.Event()
    loop.add_reader(reader, partial(_look_for_newline, reader, written))
    try:
        yield written, writer
    finally:
        loop.remove_reader(reader)
        os.close(reader)
        os.close(writer)


def _look_for_newline(reader: int, written: anyio.Event) -> None:
    if b"\n" in os.read(reader, BLOCK):
        written.set()
