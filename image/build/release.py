"""What a release is called: ``release.py v1.2.3`` prints VERSION and TAGS for the build, ``--notes`` its notes.

Refuses a tag that pyproject.toml does not have as its version, or that CHANGELOG.md has no section for.
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def main(tag: str, *, notes: bool, root: Path = ROOT) -> str:
    version = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    if tag != f"v{version}":
        raise SystemExit(f"tag {tag} is not v{version}, the version in pyproject.toml; change one of them")
    section = section_of((root / "CHANGELOG.md").read_text(), version)
    if section is None:
        raise SystemExit(f"CHANGELOG.md has no section '## {version}'; rename '## Unreleased' to it")
    return section if notes else f"VERSION={version}\nTAGS={','.join(tags(version))}\n"


def section_of(changelog: str, version: str) -> str | None:
    """What stands between this version's heading and the next; the heading may go on with a date."""
    found = re.search(rf"^## {re.escape(version)}(?: [^\n]*)?\n(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL)
    return found[1].strip() + "\n" if found else None


def tags(version: str) -> list[str]:
    """Moving tags beside the version; a pre-release moves none."""
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        return []
    major, minor, _ = version.split(".")
    return [f"{major}.{minor}", major, "latest"]


if __name__ == "__main__":
    sys.stdout.write(main(sys.argv[1], notes="--notes" in sys.argv[2:]))
