"""Where frozen matrices lie: whole in the dtype that is computed in, or packed, as ``distill.packed`` has them.

A product asks for the whole matrix, a look-up for rows of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from supervisor.distill.packed import Packed

Rows = Tensor | range


@dataclass(frozen=True)
class Whole:
    """A matrix in memory."""

    values: Tensor  # (outputs, inputs)

    def all(self) -> Tensor:
        return self.values

    def rows(self, which: Rows) -> Tensor:
        return self.values[which.start : which.stop] if isinstance(which, range) else self.values[which]


@dataclass(frozen=True)
class Stack:
    """Packed matrices one below the other; ``scratch``, shared by all, has room for the largest stack."""

    parts: Sequence[Packed]
    scratch: Tensor  # (values,)

    def all(self) -> Tensor:
        """Valid until the next stack is asked for."""
        height, width = sum(part.shape[0] for part in self.parts), self.parts[0].shape[1]
        out = self.scratch[: height * width].view(height, width)
        done = 0
        for part in self.parts:
            part.values(out.dtype, out[done : done + part.shape[0]])
            done += part.shape[0]
        return out

    def rows(self, which: Rows) -> Tensor:
        """Of a single matrix."""
        (only,) = self.parts
        return only.rows(which, self.scratch.dtype)
