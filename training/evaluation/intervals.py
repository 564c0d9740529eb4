"""Confidence intervals of measured shares."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_Z_95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Accuracy:
    """A share of pairs with a winner that are ranked correctly.

    accuracy: None where no pair was measured.
    interval: of 95%; [0, 1] where none was measured.
    pairs: how many pairs were measured.
    prompts: how many prompts they belong to; 0 where it isn't known.
    """

    accuracy: float | None
    interval: tuple[float, float]
    pairs: int
    prompts: int = 0

    def holds(self, share: float) -> bool:
        """Whether the interval contains a share."""
        return self.interval[0] <= share <= self.interval[1]


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
    return share, _wilson(share, total, _Z_95)


def clustered_accuracy(right: Tensor, groups: Tensor) -> Accuracy:
    """A share of pairs, with a 95% interval that allows for pairs of one prompt being right or wrong together.

    It is Wilson's interval for as many independent pairs as would vary like these do: the pairs' number divided by the
    design effect, the ratio of the variance between prompts to that of independent pairs. With few prompts the
    quantile is Student's.

    Args:
        right: (N,), 1 or True where a pair is ranked correctly; a tie may be 0.5.
        groups: (N,) long, the same number for pairs of one prompt.

    Reference: Kish 1965, "Survey Sampling", section 8.2; Wilson 1927.
    """
    total = len(right)
    if total == 0:
        return Accuracy(None, (0.0, 1.0), 0)
    right = right.double()
    share = float(right.mean())
    _, cluster = torch.unique(groups, return_inverse=True)
    prompts = int(cluster.max()) + 1
    if prompts == 1:  # how prompts differ can't be told from one
        return Accuracy(share, accuracy_with_interval(float(right.sum()), total)[1], total, 1)
    deviations = torch.zeros(prompts, dtype=torch.float64).index_add_(0, cluster, right - share)
    between = float(deviations.square().sum()) * prompts / (prompts - 1) / total**2
    alone = share * (1 - share) / total
    effect = max(1.0, between / alone) if alone > 0 else float(torch.bincount(cluster).double().square().sum()) / total
    return Accuracy(share, _wilson(share, total / effect, student_t_95(prompts - 1)), total, prompts)


def _wilson(share: float, total: float, quantile: float) -> tuple[float, float]:
    spread = quantile**2 / total
    middle = (share + spread / 2) / (1 + spread)
    reach = quantile * math.sqrt(share * (1 - share) / total + spread / (4 * total)) / (1 + spread)
    return max(0.0, middle - reach), min(1.0, middle + reach)


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
