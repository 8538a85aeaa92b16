"""Write what the image installs, as requirement files: ``pins.py pyproject.toml FOLDER``.

``ml.txt`` is what lessons need, ``serve.txt`` the rest with the embedded engine, ``dev.txt`` what the tests need.
"""

import sys
import tomllib
from pathlib import Path


def main(source: Path, folder: Path) -> None:
    project = tomllib.loads(source.read_text())["project"]
    extras = project["optional-dependencies"]
    serve = project["dependencies"] + extras["llama"]
    for name, wanted in (("ml", extras["distill"]), ("serve", serve), ("dev", extras["dev"])):
        (folder / f"{name}.txt").write_text("".join(f"{line}\n" for line in wanted))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
