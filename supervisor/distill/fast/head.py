"""The vocabulary end of a model, a slice of the vocabulary at a time: no (T, V) tensor ever lies in memory.

A reply's loss depends on its logits through two things only: the logits of a few chosen tokens and the logarithm of
all tokens' summed exponentials (lse). So the gradient that reaches the last hidden state is a weighted sum of the
chosen tokens' rows of W, and a multiple of the softmax-weighted sum of all others, which is found in the same scan.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from supervisor.distill.fast.kernels import compiled

SLICE, LOGITS = 2048, 1 << 20  # tokens of the vocabulary at a time, and logits: fewer tokens where there are many rows
PICKED = 1 << 22  # values of W that are looked up at a time


@dataclass(frozen=True)
class Head:
    """``rows(ids)`` gives rows of W, (V, H), in the dtype that is computed in; a slice is asked for as a range."""

    size: int  # V
    rows: Callable[[Tensor | range], Tensor]

    def top(self, hidden: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k likeliest tokens of each row of ``hidden`` (R, H): log-probabilities (R, k) and ids (R, k)."""
        lse, best = _Sum(hidden), _Best(hidden, k)
        for first, logits in self._scan(hidden):
            best.add(first, logits)
            lse.add(logits)
        values, order = best.values.sort(dim=-1, descending=True)
        return values - lse.value[:, None], best.ids.gather(-1, order)

    def log_probs(self, hidden: Tensor, ids: Tensor) -> Tensor:
        """Of the tokens ``ids`` (R, K) after each row of ``hidden`` (R, H): (R, K), float32."""
        lse = _Sum(hidden)
        found = torch.zeros(ids.shape, device=hidden.device)
        for first, logits in self._scan(hidden):
            _pick(logits, ids, first, into=found)
            lse.add(logits)
        return found - lse.value[:, None]

    def log_probs_and_rest(self, hidden: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """The same, and the sum of all other tokens' rows of W, each times its probability: (R, H)."""
        lse = _Sum(hidden)
        found = torch.zeros(ids.shape, device=hidden.device)
        rest = torch.zeros(hidden.shape, device=hidden.device)
        for first, logits in self._scan(hidden):
            _pick(logits, ids, first, into=found)
            shrunk = lse.add(logits, keep=True)
            _drop(logits, ids, first)
            rows = self.rows(range(first, first + logits.shape[-1]))
            rest.mul_(shrunk[:, None]).add_(torch.mm(logits, rows))
        return found - lse.value[:, None], rest / lse.total[:, None]

    def pull(self, ids: Tensor, grad: Tensor, log_probs: Tensor, rest: Tensor) -> Tensor:
        """The gradient of ``hidden`` (R, H) from that of the log-probabilities of ``ids``, ``grad`` (R, K).

        Of the mean row, which the logarithm of the sum pulls at, most is often that of a few chosen tokens: these
        large terms meet ``grad`` in float32, token by token, before they are rounded.
        """
        total = grad.sum(-1, keepdim=True)
        again = (ids[:, :, None] == ids[:, None, :]).tril(-1).any(-1)  # (R, K): a token that was there already
        weights = grad - total * log_probs.exp().masked_fill(again, 0)
        pulled = rest * -total  # (R, H)
        rows_at_once = max(1, PICKED // (ids.shape[-1] * rest.shape[-1]))
        for first in range(0, len(ids), rows_at_once):
            some = slice(first, first + rows_at_once)
            rows = self.rows(ids[some].reshape(-1)).view(*ids[some].shape, -1)  # (r, K, H)
            pulled[some] += torch.bmm(weights[some, None], rows.float())[:, 0]
        return pulled

    def _scan(self, hidden: Tensor) -> Iterator[tuple[int, Tensor]]:
        """(first token, its slice's logits (R, at most SLICE))."""
        step = max(1, min(SLICE, LOGITS // len(hidden)))
        for first in range(0, self.size, step):
            yield first, torch.mm(hidden, self.rows(range(first, min(first + step, self.size))).t())


class _Sum:
    """A running sum of exponentials, relative to the largest logit so far."""

    def __init__(self, hidden: Tensor) -> None:
        self.largest = torch.full((len(hidden),), -torch.inf, device=hidden.device)
        self.total = torch.zeros(len(hidden), device=hidden.device)

    def add(self, logits: Tensor, *, keep: bool = False) -> Tensor:
        """Returns what everything added before must be multiplied by. ``keep``: ``logits`` become exponentials."""
        if call := compiled(logits):
            shrunk = torch.empty_like(self.total)
            call("add_exponentials", logits, *logits.shape, self.largest, self.total, shrunk, int(keep))
            return shrunk
        largest = torch.maximum(self.largest, logits.amax(-1).float())
        shrunk = (self.largest - largest).exp()
        shares = logits.float().sub_(largest[:, None]).exp_()
        self.total = self.total * shrunk + shares.sum(-1)
        self.largest = largest
        if keep:
            logits.copy_(shares)
        return shrunk

    @property
    def value(self) -> Tensor:
        return self.largest + self.total.log()


class _Best:
    """The k largest logits so far, in no order."""

    def __init__(self, hidden: Tensor, k: int) -> None:
        self.values = torch.full((len(hidden), k), -torch.inf, device=hidden.device)
        self.ids = torch.zeros(len(hidden), k, dtype=torch.long, device=hidden.device)

    def add(self, first: int, logits: Tensor) -> None:
        k = self.ids.shape[1]
        if call := compiled(logits):
            call("add_largest", logits, *logits.shape, first, k, self.values, self.ids)
            return
        values, places = logits.topk(min(k, logits.shape[-1]), dim=-1)
        self.values, kept = torch.cat([self.values, values.float()], -1).topk(k, dim=-1)
        self.ids = torch.cat([self.ids, places + first], -1).gather(-1, kept)


def _pick(logits: Tensor, ids: Tensor, first: int, *, into: Tensor) -> None:
    """Write the logits of those ids that lie in the slice."""
    inside = (ids >= first) & (ids < first + logits.shape[-1])
    found = logits.gather(-1, (ids - first).clamp(0, logits.shape[-1] - 1)).float()
    into.copy_(torch.where(inside, found, into))


def _drop(exponentials: Tensor, ids: Tensor, first: int) -> None:
    """Set those of the ids that lie in the slice to zero."""
    inside = (ids >= first) & (ids < first + exponentials.shape[-1])
    places = (ids - first).clamp(0, exponentials.shape[-1] - 1)
    bounds = torch.where(inside, 0.0, torch.inf).to(exponentials.dtype)  # none is below zero: others stay as they are
    exponentials.scatter_reduce_(-1, places, bounds, "amin")
