"""OpenClaw's output, made fit for a log that people may share: no chat text, no JSON."""

import json


def readable(line: str) -> str:
    """One line of the gateway's output, for ``Output.redact``.

    OpenClaw prints every reply as an event without a subsystem; of those only the length is kept.
    """
    if not line.startswith("{"):
        return line
    try:
        event = json.loads(line)
    except json.JSONDecodeError:
        return f"(a torn event of {len(line)} characters)"  # cut for its length, or by a kill; may hold a reply
    if not isinstance(event, dict) or "message" not in event:
        return line
    level, subsystem, message = event.get("level", "info"), event.get("subsystem"), str(event["message"])
    if subsystem is None and level == "info":
        return f"info: (text of {len(message)} characters)"
    return f"{level}: {subsystem}: {message}" if subsystem else f"{level}: {message}"
