"""Write the versions that are in the image: ``versions.py FOLDER versions.json``.

FOLDER has what the stages left: files with a version, OpenClaw's package.json, folders of installed Python packages.
"""

import json
import sys
from importlib.metadata import distributions
from pathlib import Path


def main(stages: Path, out: Path) -> None:
    packages = {
        package.metadata["Name"]: package.version
        for folder in ("ml", "venv", "app")
        for package in distributions(path=[str(stages / folder)])
    }
    versions = {
        "clawlama": packages.pop("clawlama"),
        "openclaw": json.loads((stages / "openclaw.json").read_text())["version"],
        "node": (stages / "node").read_text().strip(),
        "ollama": (stages / "ollama").read_text().strip(),
        "torch": packages["torch"],
        "python": dict(sorted(packages.items(), key=lambda item: item[0].lower())),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(versions, indent=2) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
