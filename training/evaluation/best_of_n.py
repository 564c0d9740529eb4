"""Best-of-n of the base: what a reward model gains without any training, and at what KL.

A policy must earn its KL: drawing n answers and keeping the one with the highest score gets most of what training does,
so each report shows both on one scale. Everything is estimated from one pool of answers for each prompt.

Legend: P prompts, N answers of a pool, M answers to compare with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from training.errors import ConfigError


@dataclass(frozen=True, slots=True)
class BestOfN:
    """The best of n answers of the base, by the reward model.

    kl_nats: ln n - (n - 1) / n, an upper bound.
    gain: mean score above the base's mean answer to the same prompt, in spreads of the base's scores.
    win_rate: share of the base's single answers that it beats by the judge's scores, ties counted half.
    """

    n: int
    kl_nats: float
    gain: float
    win_rate: float


def best_of_n_kl(n: int) -> float:
    """KL in nats of the best of n answers from a single one, ln n - (n - 1) / n; less where answers can tie.

    Reference: Stiennon et al. 2020 (2009.01325), appendix G.3; Beirami et al. 2024 (2401.01879).
    """
    return math.log(n) - (n - 1) / n


def best_of_n_weights(pool: int, n: int) -> Tensor:
    """The probability (pool,) float64 of each answer, best first, to be the best of n drawn without replacement.

    A mean over the pool with these weights is an unbiased estimate for the best of n fresh answers.

    Raises:
        ConfigError: n is larger than the pool.
    """
    if not 1 <= n <= pool:
        raise ConfigError("best-of-n needs a pool of at least n answers", got=f"n = {n}", expected=f"1 to {pool}")
    ways = [math.comb(pool - 1 - rank, n - 1) / math.comb(pool, n) for rank in range(pool)]
    return torch.tensor(ways, dtype=torch.float64)


def best_of_n_curve(scores: Tensor, judged: Tensor, singles: Tensor, spread: float) -> tuple[BestOfN, ...]:
    """Best-of-n for n = 1, 2, 4, ... up to the pool's size.

    Args:
        scores: (P, N) of the reward model, by which the best is chosen.
        judged: (P, N) the judge's scores of the same answers.
        singles: (P, M) the judge's scores of other answers of the base, which the best has to beat.
        spread: standard deviation of the base's scores within a prompt.
    """
    pool = scores.shape[1]
    order = scores.argsort(dim=1, descending=True, stable=True)
    gains = ((scores - scores.mean(dim=1, keepdim=True)) / spread).gather(1, order).double()
    wins = win_shares(judged, singles).gather(1, order)
    found = []
    for n in (2**power for power in range(pool.bit_length())):
        weights = best_of_n_weights(pool, n)
        gain, win_rate = (float((values * weights).sum(dim=1).mean()) for values in (gains, wins))
        found.append(BestOfN(n, best_of_n_kl(n), gain, win_rate))
    return tuple(found)


def win_shares(ours: Tensor, theirs: Tensor) -> Tensor:
    """The share (P, N) float64 of `theirs` (P, M) that each of `ours` (P, N) outscores, ties counted half."""
    left, right = ours[:, :, None], theirs[:, None, :]
    return ((left > right).double() + 0.5 * (left == right).double()).mean(dim=2)
