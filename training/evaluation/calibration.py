"""Calibration of a preference model's probabilities: its error, and the temperature that corrects it."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_LOW, _HIGH = math.log(0.25), math.log(20.0)
_FEWEST_PAIRS = 20  # with fewer, noise outweighs what they say about the model


def fit_temperature(differences: Tensor, p_chosen: Tensor) -> float:
    """The temperature t at which sigmoid(differences / t) predicts people's choices best (lowest cross-entropy).

    The cross-entropy is convex in 1/t, so it has one minimum over log t, which a golden-section search finds.

    Args:
        differences: (N,) score of the chosen minus score of the rejected answer.
        p_chosen: (N,) share of votes for the chosen one.

    Returns:
        t in [0.25, 20]; 1.0 if there are fewer than 20 pairs.

    Reference: Guo et al. 2017 (1706.04599), section 4.2.
    """
    if len(differences) < _FEWEST_PAIRS:
        return 1.0
    differences, p_chosen = differences.double(), p_chosen.double()

    def loss(log_temperature: float) -> float:
        return float(F.binary_cross_entropy_with_logits(differences / math.exp(log_temperature), p_chosen))

    golden = (math.sqrt(5) - 1) / 2
    low, high = _LOW, _HIGH
    while high - low > 1e-4:
        left, right = high - golden * (high - low), low + golden * (high - low)
        if loss(left) <= loss(right):
            high = right
        else:
            low = left
    return math.exp((low + high) / 2)


def expected_calibration_error(
    differences: Tensor, p_chosen: Tensor, temperature: float, bins: int = 10
) -> float | None:
    """Mean gap between what is predicted and what people chose, over `bins` equal bins of confidence in [0.5, 1].

    Each pair counts with the share of votes for the answer that the model prefers. A model that says 60% of pairs on
    which three people in five agree with it is therefore perfectly calibrated.

    Args:
        differences: (N,) score of the chosen minus score of the rejected answer.
        p_chosen: (N,) share of votes for the chosen one; 0.5 is a tie.
        temperature: the divisor of the differences.
        bins: the number of bins.

    Returns:
        The gap as a share, None if there are no pairs.

    Reference: Guo et al. 2017 (1706.04599), equation 3.
    """
    if not len(differences):
        return None
    scaled, p_chosen = differences.double() / temperature, p_chosen.double()
    confidence = torch.sigmoid(scaled.abs())
    agreed = torch.where(scaled >= 0, p_chosen, 1 - p_chosen)
    agreed = torch.where(scaled == 0, 0.5, agreed)  # it prefers neither
    index = ((confidence - 0.5) * 2 * bins).long().clamp(max=bins - 1)
    gap = 0.0
    for bin_index in range(bins):
        inside = index == bin_index
        if bool(inside.any()):
            share = float(inside.double().mean())
            gap += share * abs(float(confidence[inside].mean()) - float(agreed[inside].mean()))
    return gap


def correlation(left: Tensor, right: Tensor) -> float | None:
    """Pearson's correlation of two (N,) vectors, None if either doesn't vary."""
    if len(left) < 2:
        return None
    left, right = left.double() - left.double().mean(), right.double() - right.double().mean()
    scale = float(left.norm() * right.norm())
    return float(left @ right) / scale if scale > 1e-12 else None
