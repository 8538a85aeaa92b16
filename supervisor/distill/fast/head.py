"""The vocabulary end of a model, a slice of the vocabulary at a time: no (T, V) tensor ever lies in memory.

A reply's loss depends on its logits through two things only: the logits of a few chosen tokens and the logarithm of
all tokens' summed exponentials (lse). So the gradient that reaches the last hidden state is a weighted sum of the
chosen tokens' rows of W, less a multiple of the softmax-weighted mean of all rows, which is found in the same scan.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

SLICE, LOGITS = 8192, 1 << 22  # tokens of the vocabulary at a time, and logits: fewer tokens where there are many rows
PICKED = 1 << 22  # values of W that are looked up at a time


@dataclass(frozen=True)
class Head:
    """``rows(ids)`` gives rows of W, (V, H), in the dtype that is computed in; a slice is asked for as a range."""

    size: int  # V
    rows: Callable[[Tensor | range], Tensor]

    def top(self, hidden: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k likeliest tokens of each row of ``hidden`` (R, H): log-probabilities (R, k) and ids (R, k)."""
        lse = _Sum(hidden)
        best = hidden.new_empty(len(hidden), 0, dtype=torch.float32)
        ids = hidden.new_empty(len(hidden), 0, dtype=torch.long)
        for first, logits in self._scan(hidden):
            values, places = logits.topk(min(k, logits.shape[-1]), dim=-1)
            best, kept = torch.cat([best, values], -1).topk(min(k, best.shape[-1] + values.shape[-1]), dim=-1)
            ids = torch.cat([ids, places + first], -1).gather(-1, kept)
            lse.add(logits)
        return best - lse.value[:, None], ids

    def log_probs(self, hidden: Tensor, ids: Tensor) -> Tensor:
        """Of the tokens ``ids`` (R, K) after each row of ``hidden`` (R, H): (R, K), float32."""
        lse = _Sum(hidden)
        found = torch.zeros(ids.shape, device=hidden.device)
        for first, logits in self._scan(hidden):
            _pick(logits, ids, first, into=found)
            lse.add(logits)
        return found - lse.value[:, None]

    def log_probs_and_mean(self, hidden: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """The same, and W's softmax-weighted mean row, (R, H): the gradient of lse with respect to ``hidden``."""
        lse = _Sum(hidden)
        found = torch.zeros(ids.shape, device=hidden.device)
        mean = torch.zeros(hidden.shape, device=hidden.device)
        for first, logits in self._scan(hidden):
            _pick(logits, ids, first, into=found)
            shrunk = lse.add(logits)
            rows = self.rows(range(first, first + logits.shape[-1]))
            mean.mul_(shrunk[:, None]).add_(torch.mm(lse.shares.to(rows.dtype), rows))
        return found - lse.value[:, None], mean / lse.total[:, None]

    def pull(self, ids: Tensor, grad: Tensor, mean: Tensor) -> Tensor:
        """The gradient of ``hidden`` (R, H) from that of the log-probabilities of ``ids``, ``grad`` (R, K)."""
        pulled = mean * -grad.sum(-1, keepdim=True)  # (R, H)
        rows_at_once = max(1, PICKED // (ids.shape[-1] * mean.shape[-1]))
        for first in range(0, len(ids), rows_at_once):
            some = slice(first, first + rows_at_once)
            rows = self.rows(ids[some].reshape(-1)).view(*ids[some].shape, -1)  # (r, K, H)
            pulled[some] += torch.bmm(grad[some, None].to(rows.dtype), rows)[:, 0]
        return pulled

    def _scan(self, hidden: Tensor) -> Iterator[tuple[int, Tensor]]:
        """(first token, its slice's logits (R, at most SLICE) in float32)."""
        step = max(1, min(SLICE, LOGITS // len(hidden)))
        for first in range(0, self.size, step):
            yield first, torch.mm(hidden, self.rows(range(first, min(first + step, self.size))).t()).float()


class _Sum:
    """A running sum of exponentials, relative to the largest logit so far."""

    def __init__(self, hidden: Tensor) -> None:
        self.largest = torch.full((len(hidden),), -torch.inf, device=hidden.device)
        self.total = torch.zeros(len(hidden), device=hidden.device)
        self.shares = self.total  # the last slice's exponentials

    def add(self, logits: Tensor) -> Tensor:
        """Overwrites ``logits``; returns what everything added before must be multiplied by."""
        largest = torch.maximum(self.largest, logits.amax(-1))
        shrunk = (self.largest - largest).exp()
        self.shares = logits.sub_(largest[:, None]).exp_()
        self.total = self.total * shrunk + self.shares.sum(-1)
        self.largest = largest
        return shrunk

    @property
    def value(self) -> Tensor:
        return self.largest + self.total.log()


def _pick(logits: Tensor, ids: Tensor, first: int, *, into: Tensor) -> None:
    """Write the logits of those ids that lie in the slice."""
    inside = (ids >= first) & (ids < first + logits.shape[-1])
    into.copy_(torch.where(inside, logits.gather(-1, (ids - first).clamp(0, logits.shape[-1] - 1)), into))
