"""Finds the Node and the OpenClaw that we run: in the npm folder that we installed, else on PATH."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from supervisor.errors import NodeMissing, OpenClawMissing

NODE_RANGE = "24.16 or newer within 24, or 26.1 or newer"
REMEDY = "run scripts/install_node.sh in the checkout"


@dataclass(frozen=True)
class Runtime:
    """What runs the gateway. ``entry`` is OpenClaw's own launcher script."""

    node: Path
    node_version: str
    entry: Path
    openclaw_version: str


def find_runtime(prefix: Path | None, search_path: str) -> Runtime:
    """Look below ``prefix`` (an npm folder), then along ``search_path`` (the value of PATH).

    Raises NodeMissing or OpenClawMissing, which say what was found instead and what to do.
    """
    node, node_version = _find_node(prefix, search_path)
    entry, openclaw_version = _find_openclaw(prefix, search_path)
    return Runtime(node, node_version, entry, openclaw_version)


def _find_node(prefix: Path | None, search_path: str) -> tuple[Path, str]:
    seen: list[str] = []
    for node in _node_candidates(prefix, search_path):
        version = _node_version(node)
        if version is not None and _supported(version):
            return node, version
        seen.append(f"{node} is {version or 'not runnable'}")
    found = "; ".join(seen) or f"none in {prefix or 'an npm folder'} or on PATH"
    raise NodeMissing(f"OpenClaw needs Node {NODE_RANGE}; found: {found}; {REMEDY}")


def _node_candidates(prefix: Path | None, search_path: str) -> Iterator[Path]:
    if prefix is not None:
        for name in ("node_modules/.bin/node", "node_modules/node/bin/node", "bin/node"):
            if (prefix / name).is_file():
                yield prefix / name
    if on_path := shutil.which("node", path=search_path):
        yield Path(on_path)


def _node_version(node: Path) -> str | None:
    return _asked(node, node.stat().st_mtime_ns)


@cache
def _asked(node: Path, _changed: int) -> str | None:
    """Once for each state of the file: a start looks twice, and a tenth of a second is much."""
    try:
        result = subprocess.run(
            [str(node), "--version"], capture_output=True, text=True, timeout=20, check=True, env={}
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip().removeprefix("v") or None


def _supported(version: str) -> bool:
    match = re.match(r"(\d+)\.(\d+)", version)
    if match is None:
        return False
    major, minor = int(match[1]), int(match[2])
    return (major == 24 and minor >= 16) or (major, minor) >= (26, 1)


def _find_openclaw(prefix: Path | None, search_path: str) -> tuple[Path, str]:
    for entry in _openclaw_candidates(prefix, search_path):
        version = _openclaw_version(entry)
        if version is not None:
            return entry, version
    raise OpenClawMissing(f"OpenClaw was not found in {prefix or 'an npm folder'} or on PATH; {REMEDY}")


def _openclaw_candidates(prefix: Path | None, search_path: str) -> Iterator[Path]:
    if prefix is not None:
        for folder in ("node_modules", "lib/node_modules"):
            yield prefix / folder / "openclaw" / "openclaw.mjs"
    if on_path := shutil.which("openclaw", path=search_path):
        yield Path(on_path).resolve()


def _openclaw_version(entry: Path) -> str | None:
    """The version of the package that ``entry`` belongs to; None when it is not OpenClaw's launcher."""
    try:
        package = json.loads((entry.parent / "package.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return None
    return str(package["version"]) if entry.is_file() and package.get("name") == "openclaw" else None
