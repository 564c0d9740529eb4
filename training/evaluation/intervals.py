"""Confidence intervals of measured shares."""

from __future__ import annotations

import math

from torch import Tensor

_Z_95 = 1.959963984540054


def accuracy_with_interval(right: float, total: int) -> tuple[float | None, tuple[float, float]]:
    """A share and its 95% Wilson interval; None and [0, 1] if nothing was measured.

    Args:
        right: how many cases were right or won; a tie may count half.
        total: how many cases there were.

    Reference: Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    if total == 0:
        return None, (0.0, 1.0)
    share = right / total
    spread = _Z_95**2 / total
    middle = (share + spread / 2) / (1 + spread)
    reach = _Z_95 * math.sqrt(share * (1 - share) / total + spread / (4 * total)) / (1 + spread)
    return share, (max(0.0, middle - reach), min(1.0, middle + reach))


def mean_with_interval(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean of P clusters' shares and both ends of its 95% interval, by Student's t: (..., P), P > 1, to three (...).

    Answers to one prompt are alike, so a prompt counts once, however many answers it has.

    Args:
        values: one share in [0, 1] for each cluster, for instance the win rate on a prompt.
    """
    clusters = values.shape[-1]
    values = values.double()
    mean, reach = values.mean(dim=-1), student_t_95(clusters - 1) * (values.var(dim=-1) / clusters).sqrt()
    return mean, (mean - reach).clamp(min=0.0), (mean + reach).clamp(max=1.0)


def student_t_95(freedom: int) -> float:
    """The 97.5% quantile of Student's t, by its expansion around the normal; within 2% from 3 degrees of freedom up.

    Reference: Abramowitz & Stegun 1964, 26.7.5.
    """
    z = _Z_95
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / float(freedom) ** power for power, term in enumerate(terms, start=1))
