"""Lines of JSON, as Ollama streams: cut a backend's bytes into lines, write our own."""

import json
from collections.abc import Mapping
from typing import Any

from supervisor.errors import EngineError

MAX_LINE = 16 * 1024 * 1024  # bytes


class LineSplitter:
    """Bytes in, cut anywhere; whole lines out, each with the newline that ends it, no byte changed."""

    def __init__(self) -> None:
        self._open = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Lines that ``data`` completes. EngineError for one that does not end."""
        *whole, last = data.split(b"\n")
        lines = [part + b"\n" for part in whole]
        if lines:
            lines[0] = self._open + lines[0]
            self._open = last
        else:
            self._open += last
        if len(self._open) > MAX_LINE:
            raise EngineError(f"the engine sent a line of more than {MAX_LINE // 2**20} MiB")
        return lines

    def rest(self) -> bytes:
        """What came after the last newline."""
        return self._open


def line_of(data: Mapping[str, Any]) -> bytes:
    return json.dumps(data, ensure_ascii=False).encode() + b"\n"


def object_in(line: bytes) -> dict[str, Any] | None:
    """The line as a JSON object; None for anything else."""
    try:
        parsed = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None
