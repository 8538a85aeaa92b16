"""Sequences packed into a tree: what they share is there once, and each sees its own past only."""

import random

import pytest
import torch

from supervisor.distill.fast import tree
from supervisor.distill.fast.tree import pack


def test_a_common_beginning_is_there_once() -> None:
    packed = pack([(1, 2, 3, 4), (1, 2, 5), (1, 2)])

    assert packed.tokens.tolist()[:2] == [1, 2]
    assert sorted(packed.tokens.tolist()) == [1, 2, 3, 4, 5]
    assert [row[:2].tolist() for row in packed.rows] == [[0, 1]] * 3


def test_a_sequence_that_another_one_begins_with_is_part_of_it() -> None:
    packed = pack([(7, 8), (7, 8, 9)])

    assert len(packed.tokens) == 3
    assert packed.rows[0].tolist() == packed.rows[1][:2].tolist()


@pytest.mark.parametrize("seed", range(20))
def test_every_sequence_is_found_again_with_its_positions_and_its_past(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree, "LONGEST", 4)
    draw = random.Random(seed)
    sequences = [[draw.randrange(2) for _ in range(draw.randrange(1, 15))] for _ in range(8)]

    packed = pack(sequences)

    for sequence, rows in zip(sequences, packed.rows, strict=True):
        assert packed.tokens[rows].tolist() == sequence
        assert packed.positions[rows].tolist() == list(range(len(sequence)))
        last = next(node for node in packed.nodes if node.begin <= rows[-1] < node.end)
        seen = torch.cat([torch.arange(begin, end) for begin, end in last.seen])
        assert seen[: len(rows)].tolist() == rows.tolist()
    assert len(packed.tokens) == len({tuple(one[: end + 1]) for one in sequences for end in range(len(one))})


def test_a_long_run_is_a_chain_of_short_ones() -> None:
    packed = pack([list(range(600))])

    assert [node.end - node.begin for node in packed.nodes] == [256, 256, 88]
    assert [node.depth for node in packed.nodes] == [0, 256, 512]
