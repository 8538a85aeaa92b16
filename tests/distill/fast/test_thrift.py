"""Memory is saved where it must be, and only there."""

import pytest

from supervisor.distill.fast.decoder import Shape
from supervisor.distill.fast.thrift import SAFE, Need, Thrift, choose, need

QWEN3_8B = Shape(36, 4096, 32, 8, 128, 12288, 151936, 1e-6)
NEEDED = Need(weights=1000, scratch=40, adapter=60, row=2, layer_row=4, layers=2)


@pytest.mark.parametrize(
    ("free", "expected"),
    [
        (None, Thrift(packed=False, again=0, rows=50)),
        (1560, Thrift(packed=False, again=0, rows=50)),
        (1559, Thrift(packed=False, again=1, rows=50)),
        (1360, Thrift(packed=False, again=1, rows=50)),
        (1359, Thrift(packed=False, again=2, rows=50)),
        (1160, Thrift(packed=False, again=2, rows=50)),
        (1159, Thrift(packed=True, again=0, rows=50)),
        (600, Thrift(packed=True, again=0, rows=50)),
        (599, Thrift(packed=True, again=1, rows=50)),
        (200, Thrift(packed=True, again=2, rows=50)),
        (180, Thrift(packed=True, again=2, rows=40)),
        (10, Thrift(packed=True, again=2, rows=16)),
    ],
)
def test_what_fits_is_the_quickest_way(free: int | None, expected: Thrift) -> None:
    usable = None if free is None else int(free / SAFE) + 1

    assert choose(NEEDED, 50, usable) == expected


def test_what_is_to_stay_packed_does() -> None:
    assert choose(NEEDED, 50, None, packed=True) == Thrift(packed=True, again=0, rows=50)
    assert choose(NEEDED, 50, 10**6, packed=True) == Thrift(packed=True, again=0, rows=50)


def test_an_8b_model_is_packed_on_a_laptop_and_whole_on_a_server() -> None:
    needed = need(QWEN3_8B, 8_190_000_000, 32, 2)

    assert choose(needed, 1500, 12 * 2**30).packed
    assert choose(needed, 1500, 60 * 2**30) == Thrift(packed=False, again=0, rows=1500)


def test_a_lessons_record_says_how_sparing_it_was() -> None:
    assert str(Thrift(packed=False, again=0, rows=1536)) == "whole, 1536 tokens a pass"
    assert str(Thrift(packed=True, again=12, rows=96)) == "packed, 12 layers computed again, 96 tokens a pass"
