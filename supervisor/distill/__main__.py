"""``python -m supervisor.distill FOLDER``: run the job in the folder.

Exit code 0 and ``result.json``, or 1 and ``error.json``. ``--worker FD`` takes many, over an inherited socket;
``--compare FOLDER FOLDER`` prints as JSON how far two adapters are apart.
"""

import json
import socket
import sys
from pathlib import Path

from supervisor.distill.shelf import Shelf
from supervisor.distill.worker import lesson_in, work


def main(words: list[str]) -> int:
    match words:
        case ["--worker", descriptor]:
            return work(socket.socket(fileno=int(descriptor)))
        case ["--compare", one, other]:
            from supervisor.distill.compare import distances  # noqa: PLC0415 - torch, which others load when they need it

            print(json.dumps(distances(Path(one), Path(other))))  # noqa: T201 - for a program that listens
            return 0
        case [folder]:
            return lesson_in(Path(folder), Shelf())
    print("usage: python -m supervisor.distill FOLDER", file=sys.stderr)  # noqa: T201 - a program's own words
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
