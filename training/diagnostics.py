"""Numbers that tell whether reinforcement learning is healthy.

Legend: B answers, T tokens of the longest answer, N real answer tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor


def distinct_2(tokens: Tensor, mask: Tensor) -> float:
    """Different pairs of neighbouring tokens as a share of all, 0 where there are none: tokens and mask are (B, T)."""
    pairs = torch.stack([tokens[:, :-1], tokens[:, 1:]], dim=-1)[mask[:, 1:]]
    return len(torch.unique(pairs, dim=0)) / len(pairs) if len(pairs) else 0.0


def explained_variance(values: Tensor, returns: Tensor) -> float | None:
    """1 - Var(returns - values) / Var(returns), both (N,): 1 is perfect, 0 no better than a constant.

    None where the returns don't vary.
    """
    variance = float(returns.var(unbiased=False))
    return 1 - float((returns - values).var(unbiased=False)) / variance if variance > 1e-12 else None
