"""Pulling models: Ollama downloads and keeps what it has; we watch, say how far it is, and ask again when it breaks.

A download that still brings bytes is never given up, however often it breaks.
"""

import math
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import cast

import anyio
import httpx
import ollama
import structlog

from supervisor.errors import PullFailed

ATTEMPTS = 8  # in a row without one new byte; with the pauses below they take a minute and a half
LONGEST_PAUSE = 30.0  # seconds
STALLED = 180.0  # seconds without a byte in the middle of a file; Ollama itself asks again after 30
MEMORY = 10.0  # seconds over which the speed is smoothed
SPARE = 512 * 2**20  # bytes that stay free on the disk: a full one breaks more than a download

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(frozen=True)
class PullProgress:
    """How far a download is, over the files that Ollama has named so far: bytes, bytes a second, seconds."""

    model: str
    status: str  # Ollama's word for what it does
    done: int = 0
    total: int = 0
    bytes_per_s: float | None = None
    eta_s: float | None = None

    def __str__(self) -> str:
        """For people: "pulling qwen3:8b 43 %, 12 MB/s, 3 min left"."""
        if not self.total:
            return f"pulling {self.model}: {self.status}"
        if self.done >= self.total:
            return f"pulling {self.model} 100 %: {self.status}"
        parts = [f"pulling {self.model} {100 * self.done // self.total} %"]
        if self.bytes_per_s:
            parts.append(f"{size(self.bytes_per_s)}/s")
        if self.eta_s is not None:
            parts.append(f"{duration(self.eta_s)} left")
        return ", ".join(parts)


@dataclass
class Tally:
    """Adds up the files of one model, over all attempts."""

    model: str
    _files: dict[str, tuple[int, int]] = field(default_factory=dict)  # done and total by digest
    _rate: float | None = None
    _marked: tuple[float, int] | None = None  # when, and how many bytes had come then
    came: int = 0  # bytes seen arriving

    def take(self, part: ollama.ProgressResponse, now: float) -> int:
        """Note one line; how many new bytes it tells of."""
        if not part.digest or not part.total:
            return 0
        before = self._files.get(part.digest)
        done = part.completed or 0
        self._files[part.digest] = (done, part.total)
        new = max(0, done - before[0]) if before else 0  # what lies there at first sight was there already
        self.came += new
        self._measure(now)
        return new

    def knows(self, part: ollama.ProgressResponse) -> bool:
        """Whether an earlier line was about the same file; lines about none count as known."""
        return not part.digest or part.digest in self._files

    def progress(self, status: str) -> PullProgress:
        done = sum(one for one, _ in self._files.values())
        total = sum(one for _, one in self._files.values())
        eta = (total - done) / self._rate if self._rate else None
        return PullProgress(self.model, status, done, total, self._rate, eta)

    def pause(self) -> None:
        """Nothing comes for a while, which says nothing about the speed."""
        self._marked = None

    def _measure(self, now: float) -> None:
        if self._marked is None:
            self._marked = (now, self.came)
            return
        then, came = self._marked
        if now - then < 0.5:
            return
        rate = (self.came - came) / (now - then)
        weight = 1.0 if self._rate is None else 1 - math.exp((then - now) / MEMORY)
        self._rate = rate * weight + (self._rate or 0.0) * (1 - weight)
        self._marked = (now, self.came)


Report = Callable[[PullProgress], None]


class Puller:
    """One pull at a time. ``free`` tells the bytes left on the disk of the store, None when that is not known."""

    def __init__(
        self,
        client: ollama.AsyncClient,
        free: Callable[[], int | None],
        known_models: Sequence[str] = (),
        *,
        first_pause: float = 1.0,
    ) -> None:
        self._client = client
        self._free = free
        self._known = known_models
        self._first_pause = first_pause
        self._one = anyio.Lock()

    async def pull(self, model: str, report: Report) -> None:
        """Return once the model is there. Raises PullFailed with the remedy; what came stays for the next time."""
        async with self._one:
            tally, fruitless = Tally(model), 0
            while True:
                report(tally.progress("asking the registry"))
                problem, came = await self._attempt(tally, report)
                if not problem:
                    return
                fruitless = 0 if came and not wasted(problem) else fruitless + 1
                if hopeless := self._hopeless(model, problem):
                    raise PullFailed(f"{model} cannot be pulled: {hopeless}")
                if fruitless >= ATTEMPTS:
                    raise PullFailed(f"{model} cannot be pulled: {given_up(problem)}")
                pause = min(self._first_pause * 2 ** max(0, fruitless - 1), LONGEST_PAUSE)
                log.warning("pull broke off", model=model, problem=problem, again_in=pause)
                report(tally.progress(f"waiting to ask again ({problem})"))
                tally.pause()
                await anyio.sleep(pause)

    async def _attempt(self, tally: Tally, report: Report) -> tuple[str, int]:
        """What broke it off, empty when nothing did, and how many bytes came."""
        before = tally.came
        try:
            problem = await self._watch(tally, report)
        except ollama.ResponseError as exc:
            problem = exc.error
        except (httpx.TransportError, ConnectionError) as exc:
            problem = f"Ollama does not answer: {exc or type(exc).__name__}"
        except ValueError as exc:
            problem = f"Ollama was cut off in the middle of a line: {exc}"
        return problem, tally.came - before

    async def _watch(self, tally: Tally, report: Report) -> str:
        """Follow one pull to its end, or until we break it off: why, and empty when the model is there."""
        moved = anyio.current_time()
        pull = cast("AsyncGenerator[ollama.ProgressResponse, None]", await self._client.pull(tally.model, stream=True))
        async with aclosing(pull) as parts:  # a generator left open would go on downloading
            async for part in parts:
                now, first = anyio.current_time(), not tally.knows(part)
                if tally.take(part, now) or not unfinished(part):
                    moved = now
                if first and (short := self._short_of_room(part)):
                    return short
                report(tally.progress(part.status or ""))
                if part.status == "success":
                    return ""
                if now - moved > STALLED:
                    return f"no byte came for {STALLED:.0f} s"
        return "Ollama ended its answer too early"

    def _short_of_room(self, part: ollama.ProgressResponse) -> str:
        """Said before the disk is full; a file that is there needs none."""
        free, missing = self._free(), (part.total or 0) - (part.completed or 0)
        if free is None or missing <= 0 or missing + SPARE <= free:
            return ""
        return f"{NO_ROOM}: {size(missing)} are to come and {size(free)} are free"

    def _hopeless(self, model: str, problem: str) -> str:
        """What a person has to do about it; empty when asking again may help."""
        text = problem.lower()
        for signs, remedy in REMEDIES:
            if any(sign in text for sign in signs):
                near = get_close_matches(model, self._known, n=3, cutoff=0.5) if "file does not exist" in signs else []
                return f"{problem}; {remedy}" + (f" Did you mean {' or '.join(near)}?" if near else "")
        return ""


NO_ROOM = "the disk is too small"
REMEDIES: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("file does not exist", "invalid model name", "invalid model path"),
        "no model has this name. See https://ollama.com/library and correct CLAWLAMA_MODEL or CLAWLAMA_MODELS.",
    ),
    (
        (NO_ROOM, "no space left on device", "disk quota exceeded", "not enough space"),
        "make room in the folder of Ollama's models (OLLAMA_MODELS) or choose a smaller model; what came is kept.",
    ),
    (("newer version of ollama",), "update Ollama: https://ollama.com/download."),
    (
        ("unauthorized", "access denied", "manifest: 401", "manifest: 403"),
        "this model is private; choose another, or sign Ollama in.",
    ),
    (("permission denied", "read-only file system"), "Ollama must be able to write into the folder of its models."),
)
NO_NETWORK = (
    "no such host",
    "dial tcp",
    "network is unreachable",
    "connection refused",
    "i/o timeout",
    "tls handshake",
)


def given_up(problem: str) -> str:
    """The last problem after all attempts."""
    if any(sign in problem.lower() for sign in NO_NETWORK):
        return f"{problem}; Ollama has no way to its registry. Check the network (DNS, proxy), then start again."
    return f"{problem}; tried {ATTEMPTS} times. Try again later: what has come so far is kept."


def wasted(problem: str) -> bool:
    """Whether what came is thrown away: a registry that sends wrong bytes would keep us busy for ever."""
    return "digest mismatch" in problem.lower()


def unfinished(part: ollama.ProgressResponse) -> bool:
    """Whether bytes of this file are still to come."""
    return bool(part.digest and part.total) and (part.completed or 0) < (part.total or 0)


def size(count: float) -> str:
    """Bytes for people, in powers of ten as Ollama counts them."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.{0 if count >= 10 * scale else 1}f} {unit}"
    return f"{count:.0f} B"


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
