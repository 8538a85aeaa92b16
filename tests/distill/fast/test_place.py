"""Rotations are the same numbers in every process, whatever library takes the cosine."""

import numpy as np
import torch

from supervisor.distill.fast.place import Turn


def test_cosines_and_sines_are_right_to_the_last_bit() -> None:
    frequencies = 1 / 1e6 ** (torch.arange(0, 128, 2) / 128)
    positions = torch.arange(3000)

    turn = Turn.of(positions, frequencies)

    angles = (positions[:, None, None].float() * frequencies).numpy().astype(np.float64)
    assert np.array_equal(turn.cos.numpy(), np.cos(angles).astype(np.float32))
    assert np.array_equal(turn.sin.numpy(), np.sin(angles).astype(np.float32))
