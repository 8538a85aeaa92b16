import pytest

from supervisor.services.restart import (
    RestartPolicy,
    describe_exit,
    exit_status,
    failures_in_a_row,
    pause_before_restart,
)

POLICY = RestartPolicy(patience=5, first_pause=0.5, longest_pause=5.0, healthy_after=10.0)


@pytest.mark.parametrize(
    ("failures", "seconds"), [(0, 0.0), (1, 0.5), (2, 1.0), (3, 2.0), (4, 4.0), (5, 5.0), (6, None)]
)
def test_pauses_double_up_to_a_limit_and_then_we_give_up(failures: int, seconds: float | None) -> None:
    assert pause_before_restart(failures, POLICY) == seconds


def test_a_service_that_was_never_ready_or_only_briefly_is_not_forgiven() -> None:
    assert failures_in_a_row(3, None, POLICY) == 4
    assert failures_in_a_row(3, 9.9, POLICY) == 4


def test_a_while_of_readiness_wipes_the_slate() -> None:
    assert failures_in_a_row(3, 10.0, POLICY) == 1


def test_even_the_slowest_failure_is_given_up_in_the_end() -> None:
    failures = 0
    while pause_before_restart(failures, POLICY) is not None:
        failures = failures_in_a_row(failures, None, POLICY)  # each may have taken an hour

    assert failures == 6


@pytest.mark.parametrize(
    ("returncode", "words"),
    [(0, "exit code 0"), (78, "exit code 78"), (-15, "SIGTERM"), (-9, "SIGKILL (out of memory?)"), (-99, "signal 99")],
)
def test_an_exit_is_described_in_words(returncode: int, words: str) -> None:
    assert describe_exit(returncode) == words


@pytest.mark.parametrize(("returncode", "status"), [(3, 3), (-9, 137), (0, 1), (None, 1)])
def test_what_we_end_with_is_never_success(returncode: int | None, status: int) -> None:
    assert exit_status(returncode) == status
