"""``python -m supervisor`` is ``clawlama``. Almost empty: even a Ctrl-C during the imports ends without a traceback."""

import sys


def main() -> None:
    try:
        from supervisor.cli.main import run  # noqa: PLC0415 - a second of imports

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
