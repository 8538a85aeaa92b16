"""``python -m supervisor`` is ``clawlama``. Almost empty: even a Ctrl-C during the imports ends without a traceback."""

import os
import signal
import sys


def main() -> None:
    if sys.argv[1:2] == ["up"]:
        signal.signal(signal.SIGTERM, nothing_started)
    try:
        from supervisor.cli.main import run  # noqa: PLC0415 - a second of imports

        run()
    except KeyboardInterrupt:
        sys.exit(130)


def nothing_started(*_signal: object) -> None:
    """During the imports of ``up``: there is nothing to stop, so that is done, and done well."""
    os._exit(0)


if __name__ == "__main__":
    main()
