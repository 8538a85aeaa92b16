"""Asks the real OpenClaw whether it accepts the rendered config, before the gateway is started with it."""

import hashlib
import json
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import anyio

from supervisor.errors import RenderError
from supervisor.gateway.command import OpenClaw, cli_command, environment
from supervisor.render.write import write_atomically
from supervisor.services.reaper import OWNER_VARIABLE, owner_mark

PATIENCE_S = 120.0


async def validate(openclaw: OpenClaw, *, plugin: Path, stamp: Path, owner: str = "") -> bool:
    """Whether OpenClaw was asked; it is not when it accepted the same config and plugin before (``stamp``).

    ``owner``: see services.reaper.sweep. Raises RenderError that names each key OpenClaw refuses.
    """
    accepted = _fingerprint(openclaw, plugin)
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == accepted:
        return False
    result = await _run(openclaw, owner)
    problems = _problems(result)
    if problems:
        raise RenderError(f"OpenClaw {openclaw.runtime.openclaw_version} refuses {openclaw.config}: {problems}")
    write_atomically(stamp, accepted)
    return True


async def _run(openclaw: OpenClaw, owner: str) -> CompletedProcess[bytes]:
    command = cli_command(openclaw, "config", "validate", "--json")
    marked = {**environment(openclaw), OWNER_VARIABLE: owner_mark(owner, "validate")}
    try:
        with anyio.fail_after(PATIENCE_S):
            return await anyio.run_process(
                command.argv, env=marked, cwd=command.cwd, check=False, start_new_session=True
            )
    except TimeoutError as exc:
        raise RenderError(
            f"OpenClaw did not finish checking {openclaw.config} within {PATIENCE_S:.0f} s; is the machine overloaded?"
        ) from exc


def _problems(result: CompletedProcess[bytes]) -> str:
    """Empty when the config was accepted."""
    text = result.stdout.decode(errors="replace")
    try:
        answer: dict[str, Any] = json.loads(text)
    except json.JSONDecodeError:
        said = (result.stderr.decode(errors="replace") or text).strip()[-500:]
        return f"it answered no JSON (exit code {result.returncode}): {said}"
    if answer.get("valid") is True and result.returncode == 0:
        return ""
    issues = answer.get("issues") or [{"path": "<root>", "message": answer.get("error", "no reason given")}]
    return "; ".join(f"{issue.get('path')}: {issue.get('message')}" for issue in issues)


def _fingerprint(openclaw: OpenClaw, plugin: Path) -> str:
    digest = hashlib.sha256(f"{openclaw.runtime.openclaw_version} {openclaw.config}\n".encode())
    for path in (openclaw.config, plugin / "openclaw.plugin.json"):
        digest.update(path.read_bytes())
    return digest.hexdigest()
