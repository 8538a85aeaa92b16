"""Write the checksum of an Ollama release into the descriptions of its GPU packs.

``pin_ollama.py DESCRIPTIONS VERSION SUMS ARCHIVE OUT``: for each description in DESCRIPTIONS that names ARCHIVE's file,
one with version, size and checksum goes to OUT. Runs where the archive was just checked against SUMS, so nothing is
downloaded for it. Nothing but the standard library and tar.
"""

import json
import subprocess
import sys
from pathlib import Path

RELEASES = "https://github.com/ollama/ollama/releases/download"


def main(descriptions: Path, version: str, sums: Path, archive: Path, out: Path) -> None:
    known = checksums(sums.read_text())
    members = contents(archive)
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(descriptions.glob("ollama-*.json")):
        pack = json.loads(path.read_text())
        (file,) = pack["files"]
        if file["name"] != archive.name:
            continue
        file |= {
            "url": f"{RELEASES}/v{version}/{archive.name}",
            "size": archive.stat().st_size,
            "sha256": known[archive.name],
            "unpacked": sum(size for name, size in members if not name.startswith(tuple(file["leave_out"]))),
        }
        (out / path.name).write_text(json.dumps(pack | {"version": version}, indent=1) + "\n")


def checksums(text: str) -> dict[str, str]:
    """Of the lines that sha256sum writes: "CHECKSUM  ./NAME"."""
    lines = (line.split(maxsplit=1) for line in text.splitlines() if line.strip())
    return {name.strip().lstrip("*").removeprefix("./"): checksum for checksum, name in lines}


def contents(archive: Path) -> list[tuple[str, int]]:
    """Name and bytes of each plain file."""
    tar = ["tar", "--list", "--verbose", "--auto-compress", "--quoting-style=literal", "--file", str(archive)]
    told = subprocess.run(tar, check=True, capture_output=True, text=True).stdout
    lines = (line.split(maxsplit=5) for line in told.splitlines() if line.startswith("-"))
    return [(name.removeprefix("./"), int(size)) for _mode, _owner, size, _day, _time, name in lines]


if __name__ == "__main__":
    descriptions, version, sums, archive, out = sys.argv[1:]
    main(Path(descriptions), version, Path(sums), Path(archive), Path(out))
