"""When a service that ended is started again: values in, values out."""

import signal
from dataclasses import dataclass


@dataclass(frozen=True)
class RestartPolicy:
    """Failures count in a row, not per minute: a service that takes long to fail must be given up too."""

    patience: int = 5  # failures in a row that are followed by another start
    first_pause: float = 0.5  # seconds; doubles with each further failure
    longest_pause: float = 30.0  # seconds
    healthy_after: float = 10.0  # seconds of readiness that wipe the slate


def failures_in_a_row(before: int, ready_for: float | None, policy: RestartPolicy) -> int:
    """The count after one more failure, of a process that had been ready for so many seconds (None: never)."""
    recovered = ready_for is not None and ready_for >= policy.healthy_after
    return 1 if recovered else before + 1


def pause_before_restart(failures: int, policy: RestartPolicy) -> float | None:
    """Seconds to wait before the next start, or None to give up."""
    if failures > policy.patience:
        return None
    if failures == 0:
        return 0.0
    return min(policy.first_pause * 2.0 ** (failures - 1), policy.longest_pause)


def exit_status(returncode: int | None) -> int:
    """What we end with because of it: its exit code, 128 and the signal's number, and never 0."""
    if returncode is None:
        return 1
    return 128 - returncode if returncode < 0 else returncode or 1


def describe_exit(returncode: int) -> str:
    """Words for an exit code as the subprocess module gives it."""
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = f"signal {-returncode}"
    return f"{name} (out of memory?)" if name == "SIGKILL" else name
