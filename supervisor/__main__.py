"""``python -m supervisor`` is ``clawlama``."""

from supervisor.cli.main import run

run()
