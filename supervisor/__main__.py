"""``python -m supervisor`` is ``clawlama``. Almost empty: even a Ctrl-C during the imports ends without a traceback."""

import os
import signal
import sys
from contextlib import suppress
from typing import NoReturn


def main() -> None:
    starting = sys.argv[1:2] == ["up"]
    if starting:
        signal.signal(signal.SIGTERM, nothing_started)
    try:
        from supervisor.cli.main import run  # noqa: PLC0415 - a second of imports

        run()
    except KeyboardInterrupt:
        sys.exit(130)
    except SystemExit as exc:
        if starting and isinstance(exc.code, int):
            leave(exc.code)
        raise


def nothing_started(*_signal: object) -> None:
    """During the imports of ``up``: there is nothing to stop, so that is done, and done well."""
    os._exit(0)


def leave(code: int) -> NoReturn:
    """Everything is stopped and kept. Python would now take its modules apart, which on a busy machine takes seconds.

    Docker gives ten in all, and kills.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads it any more
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
