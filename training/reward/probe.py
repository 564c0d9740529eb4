"""Fits linear Bradley-Terry models: many at once over the same pairs, each with its own weights and prior.

With x_i the difference of a pair's features and s_i the share of votes for the chosen answer, a model's weights w
minimise the sum of n_i * cross-entropy(s_i, sigmoid(w x_i)) over pairs + |w|^2 / (2 t^2): the most probable w where
its prior is normal with deviation t. The sum is strictly convex, so there is one solution and it is finite, even
where the pairs are separable.

Legend: N pairs, D features, C models.

Reference: Bradley & Terry 1952; Nocedal & Wright 2006, "Numerical Optimization", algorithm 7.1.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_NEWTON_STEPS, _CONJUGATE_STEPS, _HALVINGS = 40, 60, 12
_TOLERANCE = 1e-6


def fit_probes(features: Tensor, p_chosen: Tensor, counts: Tensor, deviations: Tensor) -> Tensor:
    """The weights (D, C) float64 of C models, by Newton's method with conjugate gradients.

    Args:
        features: (N, D), differences chosen - rejected.
        p_chosen: (N,), shares of votes for the chosen answer; 0.5 is a tie.
        counts: (N, C), how much each model counts each pair; 0 leaves it out.
        deviations: (C,), t: the weights' deviations under the prior; smaller is more regularised.
    """
    x, target, counts = features.double(), p_chosen.double()[:, None], counts.double()
    precision = 1.0 / deviations.double().square()
    weights = torch.zeros(x.shape[1], counts.shape[1], dtype=torch.float64)
    logits = torch.zeros(len(x), counts.shape[1], dtype=torch.float64)

    def objective(logits: Tensor, weights: Tensor) -> Tensor:
        losses = F.softplus(logits) - target * logits
        return (counts * losses).sum(dim=0) + 0.5 * precision * weights.square().sum(dim=0)

    value = objective(logits, weights)
    for _ in range(_NEWTON_STEPS):
        probability = logits.sigmoid()
        gradient = x.T @ (counts * (probability - target)) + precision * weights
        if not bool((gradient.norm(dim=0) > _TOLERANCE * (1.0 + counts.sum(dim=0))).any()):
            break
        step = _newton_step(x, counts * probability * (1 - probability), precision, gradient)
        moved, size = x @ step, torch.ones_like(value)
        for _ in range(_HALVINGS):
            found = objective(logits - size * moved, weights - size * step)
            worse = found > value
            if not bool(worse.any()):
                break
            size = torch.where(worse, size / 2, size)
        size = torch.where(found > value, 0.0, size)
        weights, logits = weights - size * step, logits - size * moved
        value = torch.minimum(found, value)
    return weights


def pair_losses(logits: Tensor, p_chosen: Tensor) -> Tensor:
    """Cross-entropy in nats of each pair: logits (N, ...) and shares (N,) give (N, ...)."""
    target = p_chosen.double().view(-1, *[1] * (logits.dim() - 1))
    return F.softplus(logits.double()) - target * logits.double()


def _newton_step(x: Tensor, curvature: Tensor, precision: Tensor, gradient: Tensor) -> Tensor:
    """Hessian^-1 times gradient (D, C), by conjugate gradients for all models at once."""
    step = torch.zeros_like(gradient)
    residual, direction = gradient.clone(), gradient.clone()
    size = residual.square().sum(dim=0)
    enough = 1e-4 * size  # a hundredth of the gradient is accurate enough for a step that will be corrected
    for _ in range(_CONJUGATE_STEPS):
        if not bool((size > enough).any()):
            break
        curved = x.T @ (curvature * (x @ direction)) + precision * direction
        along = (direction * curved).sum(dim=0)
        length = torch.where(along > 0, size / along, 0.0)
        step, residual = step + length * direction, residual - length * curved
        smaller = residual.square().sum(dim=0)
        direction = residual + torch.where(size > 0, smaller / size, 0.0) * direction
        size = smaller
    return step
