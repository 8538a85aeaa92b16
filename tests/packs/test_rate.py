import pytest

from supervisor.packs.rate import Rate, duration


def test_the_speed_is_that_of_the_last_seconds() -> None:
    rate = Rate(100_000_000)
    for second in range(30):
        rate.take(second * 1_000_000 if second < 15 else 15_000_000 + (second - 15) * 2_000_000, float(second))

    assert str(rate) == "43 %, 2.0 MB/s, 28 s left"


def test_nothing_is_said_of_a_speed_that_is_not_known() -> None:
    rate = Rate(1000)
    rate.take(10, 5.0)

    assert str(rate) == "1 %"


def test_a_download_that_starts_again_is_measured_anew() -> None:
    rate = Rate(1000)
    rate.take(900, 1.0)
    rate.take(0, 3.0)
    rate.take(100, 4.0)

    assert str(rate) == "10 %, 100 bytes/s, 9 s left"


@pytest.mark.parametrize(("seconds", "said"), [(0.1, "1 s"), (89, "89 s"), (200, "3 min"), (6000, "100 min")])
def test_a_duration_is_told_roughly(seconds: float, said: str) -> None:
    assert duration(seconds) == said
