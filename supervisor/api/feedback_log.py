"""One JSON file per ended lesson, in the form that other tools of this kind read."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import structlog

from supervisor.errors import JournalError
from supervisor.journal.journal import Journal
from supervisor.journal.records import ENDED, Feedback, Lesson

TIMINGS = ("sleep", "distill", "save", "wake", "logprobs", "total")
CAUGHT_UP = 200  # lessons that may have ended unlogged while we were down

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class FeedbackLog:
    """Files named by the end and the id of their lesson, so that writing one again changes nothing."""

    def __init__(self, folder: Path, journal: Journal) -> None:
        self._folder = folder
        self._journal = journal

    async def follow(self) -> None:
        """Write down each lesson when it ends, first those that ended while nobody was looking."""
        async with self._journal.changes() as changes:
            for lesson_id in await self._ended_before():
                await self._write_if_ended(lesson_id)
            async for change in changes:
                if change.kind == "lesson":
                    await self._write_if_ended(change.id)

    async def write(self, lesson: Lesson) -> str:
        """Make sure that an ended lesson is written down; the file's path, or "" when the disk does not take it."""
        path = self._folder / f"{lesson.finished:%Y%m%dT%H%M%S}-{lesson.id}.json"
        if not path.exists():
            record = lesson_record(lesson, await self._journal.feedback_of(lesson.id))
            try:
                _write_whole(path, json.dumps(record, indent=2, ensure_ascii=False) + "\n")
            except OSError as exc:
                log.warning("feedback log not written", path=str(path), problem=exc.strerror)
                return ""
        return str(path)

    async def _ended_before(self) -> list[str]:
        try:
            return [lesson.id for lesson in await self._journal.lessons(CAUGHT_UP, states=ENDED)]
        except JournalError as exc:
            log.warning("feedback log not caught up", problem=str(exc))
            return []

    async def _write_if_ended(self, lesson_id: str) -> None:
        try:
            lesson = await self._journal.lesson(lesson_id)
            if lesson.ended:
                await self.write(lesson)
        except JournalError as exc:
            log.warning("feedback log not written", lesson=lesson_id, problem=str(exc))


def lesson_outcome(lesson: Lesson) -> dict[str, Any]:
    """What an ended lesson came to, for an answer and for its file alike."""
    timings = dict.fromkeys(TIMINGS, 0) | {name: round(value) for name, value in lesson.timing_ms.items()}
    if lesson.finished and "total" not in lesson.timing_ms:
        timings["total"] = round((lesson.finished - (lesson.started or lesson.created)).total_seconds() * 1000)
    return {
        "request_id": lesson.id,
        "lora_id": lesson.adapter,
        "distill_result": {"lora_id": lesson.adapter, "metadata": lesson.metrics} if lesson.metrics else None,
        "vllm": {"slept": "sleep" in lesson.timing_ms, "woke": "wake" in lesson.timing_ms},
        "timing_ms": timings,
    }


def lesson_record(lesson: Lesson, feedback: Sequence[Feedback]) -> dict[str, Any]:
    return {
        **lesson_outcome(lesson),
        "timestamp_utc": (lesson.finished or lesson.changed).isoformat(),
        "status": "ok" if lesson.state == "done" else "error",
        "phase": lesson.state,
        "requests": [_request(item, lesson) for item in feedback],
        "batch_samples": [],
        "error": lesson.error,
        "orchestration": lesson.orchestration,
        "version": lesson.version,
        "attempts": lesson.attempts,
    }


def _request(item: Feedback, lesson: Lesson) -> dict[str, Any]:
    return {
        "lora_id": item.adapter,
        "prompt": item.prompt or "",
        "response": item.response or "",
        "feedback": item.text,
        "completion_id": item.completion_id,
        "training": lesson.training,
    }


def _write_whole(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_suffix(".tmp")
    with open(draft, "w", encoding="utf-8", opener=_private) as file:
        file.write(text)
    draft.replace(path)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
