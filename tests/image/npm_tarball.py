"""A package from NPM_REGISTRY without npm: ``fetch NAME VERSION INTEGRITY FOLDER``, ``pinned LOCK NAME``."""

import base64
import hashlib
import io
import json
import os
import sys
import tarfile
import urllib.request
from pathlib import Path

TIMEOUT = 120.0  # seconds without a byte


def pinned(lock: Path, name: str) -> str:
    """Version and integrity that a lock file holds."""
    entry = json.loads(lock.read_text())["packages"][f"node_modules/{name}"]
    return f"{entry['version']} {entry['integrity']}"


def fetch(name: str, version: str, integrity: str, folder: Path) -> None:
    """Download, compare with the integrity (SHA-512), unpack."""
    address = f"{os.environ['NPM_REGISTRY'].rstrip('/')}/{name}/-/{name}-{version}.tgz"
    with urllib.request.urlopen(address, timeout=TIMEOUT) as answer:
        content = answer.read()
    found = "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()
    if found != integrity:
        raise SystemExit(f"{address}: {found} is not {integrity}; the pinned package was changed or cut short")
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for member in archive.getmembers():
            member.name = member.name.partition("/")[2]  # they all begin with package/
            if member.name:
                archive.extract(member, folder)  # proven by its checksum


if __name__ == "__main__":
    command, *rest = sys.argv[1:]
    if command == "pinned":
        sys.stdout.write(pinned(Path(rest[0]), rest[1]) + "\n")
    else:
        fetch(rest[0], rest[1], rest[2], Path(rest[3]))
