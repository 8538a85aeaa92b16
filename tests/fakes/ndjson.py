"""Ollama's own form of a reply, for the scripted backend."""

import json
from typing import Any

from tests.fakes.backend import Script, Wire

NUMBERS = {
    "total_duration": 9_000_000,
    "load_duration": 1_000_000,
    "prompt_eval_count": 3,
    "prompt_eval_duration": 2_000_000,
    "eval_count": 2,
    "eval_duration": 4_000_000,
}


def line(content: str = "", *, done: str = "", **message: Any) -> bytes:
    """One line of a streamed /api/chat reply; ``done`` is the reason of the end."""
    end = {"done_reason": done, **NUMBERS} if done else {}
    said = {"role": "assistant", "content": content, **message}
    part = {"model": "tiny", "created_at": "2026-11-20T12:00:00Z", "message": said, "done": bool(done), **end}
    return json.dumps(part, ensure_ascii=False).encode() + b"\n"


def lines(data: bytes, cut: int = 10**9) -> Script:
    """Stream ``data`` in pieces of ``cut`` bytes."""

    async def script(wire: Wire) -> None:
        await wire.head("application/x-ndjson")
        for start in range(0, len(data), cut):
            await wire.send(data[start : start + cut])
        await wire.end()

    return script
