"""The support: the tokens at which student and teacher are compared one by one. Pure functions on tensors.

All others share one bucket, the tail (arXiv 2601.20802), so that both sides stay distributions. Whose most likely
tokens are taken is ``Training.support``.
"""

import torch
from torch import Tensor

FLOOR = 1e-6  # float32 cannot tell smaller tails from rounding


def top_k(log_probs: Tensor, k: int) -> Tensor:
    """The k most likely tokens, fewer where the tail would hold none: (T, V) -> (T, K) ids."""
    return log_probs.topk(min(k, log_probs.shape[-1] - 1), dim=-1).indices


def with_tail(chosen: Tensor) -> Tensor:
    """Log-probabilities of the support and, last, of all other tokens together: (T, K) -> (T, K+1).

    The tail is what the chosen ones leave, at least FLOOR. Below that its gradient goes on, divided by FLOOR instead of
    by the tail: it fades to zero. Cut off there, a student certain of its support could not be pulled out of it.
    """
    inside = chosen.exp().sum(-1, keepdim=True)  # (T, 1)
    held = inside + (inside.clamp(max=1 - FLOOR) - inside).detach()  # (T, 1), gradient of ``inside``
    return torch.cat([chosen, torch.log1p(-held)], dim=-1)  # (T, K+1)
