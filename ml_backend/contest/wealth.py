r"""An anytime-valid test of a mean, by betting.

A gambler starts with 1 and bets, before each observation :math:`x \in [0, 1]`, that the mean is above :math:`m`. With a
share :math:`f` of the wealth at stake, it is multiplied by :math:`1 - f + f x / m`. If the mean isn't above :math:`m`,
whatever was seen before, no bet gains on average, and by Ville's inequality the wealth ever reaches
:math:`1 / \alpha` with probability :math:`\alpha` at most: one may look after each observation, and stop at any.

Several gamblers with different shares pool their wealth, as nobody knows the best share beforehand. As each share is
constant, the wealth depends on the observations alone, not on their order.

Reference: Waudby-Smith and Ramdas 2020, "Estimating means of bounded random variables by betting" (2010.09686),
sections 4 and 5 (diversified Kelly betting); Shafer 2021, "Testing by betting".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

BETS = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9])
"""The shares at stake. A share f gains most where the true mean is (1 + f) / 2, against m = 1/2."""
POOL = np.array([3, 4, 4, 3, 2, 1, 1]) / 18
"""How much of the wealth each begins with: most stands where small differences are found."""
ALPHA = 0.05
_TOLERANCE = 1e-6

Array = Any
"""An array of NumPy's, of floats."""


def log_wealth(scores: Sequence[float] | Array, mean: float = 0.5) -> float:
    """The logarithm of the wealth after all observations, for bets that their mean is above `mean`.

    Args:
        scores: the observations, each in [0, 1].
        mean: in (0, 1).
    """
    return float(_pooled(_log_gains(np.asarray(scores, dtype=float), mean).sum(axis=0)))


def log_wealth_path(scores: Array, mean: float = 0.5) -> Array:
    """The logarithm of the wealth after each observation.

    Args:
        scores: (..., N), each in [0, 1].
        mean: in (0, 1).

    Returns:
        (..., N)
    """
    return _pooled(_log_gains(np.asarray(scores, dtype=float), mean).cumsum(axis=-2))


def bounds(scores: Sequence[float], alpha: float = ALPHA) -> tuple[float, float]:
    """A lower and an upper bound of the mean, the means that bets either way haven't refuted.

    Each bound holds with probability 1 - alpha at all times together, however often one looks.
    """
    values = np.asarray(scores, dtype=float)
    return _lower(values, alpha), 1 - _lower(1 - values, alpha)


def further(scores: Sequence[float], alpha: float = ALPHA) -> int | None:
    """Roughly how many more observations like those so far decide, one way or the other; None if they never do."""
    values = np.asarray(scores, dtype=float)
    if not len(values):
        return None
    needed = []
    for side in (values, 1 - values):
        gains = _log_gains(side, 0.5).mean(axis=0)  # per observation, for each share
        if gains.max() > 0:
            low, high = 0, len(values)
            while _pooled(high * gains) < -np.log(alpha):
                high *= 2
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (low, middle) if _pooled(middle * gains) >= -np.log(alpha) else (middle, high)
            needed.append(max(0, high - len(values)))
    return min(needed, default=None)


def _lower(values: Array, alpha: float) -> float:
    """The greatest mean that is refuted: the wealth falls as the mean rises, so all below are refuted as well."""
    low, high = 0.0, 1.0
    while high - low > _TOLERANCE:
        middle = (low + high) / 2
        refuted = log_wealth(values, middle) >= -np.log(alpha)
        low, high = (middle, high) if refuted else (low, middle)
    return low


def _log_gains(values: Array, mean: float) -> Array:
    """(..., N, number of bets): what each observation multiplies each share's wealth by, as a logarithm."""
    return np.log1p(BETS * (values[..., None] / mean - 1))


def _pooled(logs: Array) -> Array:
    """The logarithm of the pool's wealth, of each share's (..., number of bets)."""
    return np.logaddexp.reduce(logs + np.log(POOL), axis=-1)
