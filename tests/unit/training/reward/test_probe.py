"""The linear Bradley-Terry models: one finite solution, votes as weights, and a prior that decides how far they go."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from training.reward.probe import fit_probes, pair_losses


def _fit(x: Tensor, p_chosen: Tensor, counts: Tensor | None = None, deviation: float = 1.0) -> Tensor:
    counts = torch.ones(len(x), 1) if counts is None else counts
    return fit_probes(x, p_chosen, counts, torch.full((counts.shape[1],), deviation))


def test_one_feature_by_hand() -> None:
    """One pair with feature 1 that wins: w minimises ln(1 + e^-w) + w^2 / 2, so w = sigmoid(-w)."""
    weight = float(_fit(torch.ones(1, 1), torch.ones(1))[0, 0])
    assert weight == pytest.approx(1 / (1 + math.exp(weight)), abs=1e-6)


def test_the_gradient_is_zero_at_the_solution() -> None:
    """On random pairs with shares of votes, every model's gradient vanishes, whatever its prior."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(40, 7, generator=draw, dtype=torch.float64)
    p = torch.rand(40, generator=draw, dtype=torch.float64)
    counts = torch.randint(0, 4, (40, 3), generator=draw).double()
    deviations = torch.tensor([0.1, 1.0, 30.0], dtype=torch.float64)
    weights = fit_probes(x, p, counts, deviations)
    gradient = x.T @ (counts * ((x @ weights).sigmoid() - p[:, None])) + weights / deviations.square()
    assert float(gradient.abs().max()) < 1e-3


@pytest.mark.parametrize("deviation", [1.0, 1e3])
def test_separable_pairs_have_finite_weights(deviation: float) -> None:
    """Where a direction orders every pair, the weights stay finite: no longer than the loss at zero allows."""
    x = torch.rand(30, 5, generator=torch.Generator().manual_seed(1)) + 0.1
    weights = _fit(x, torch.ones(30), deviation=deviation)
    assert bool(torch.isfinite(weights).all())
    assert float(weights.norm()) <= deviation * math.sqrt(2 * 30 * math.log(2))
    assert bool((x.double() @ weights > 0).all())


def test_ties_and_contradictions_teach_nothing() -> None:
    """Ties alone, or as many votes one way as the other on the same pair, leave the weights at zero."""
    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(2))
    assert float(_fit(x, torch.full((6,), 0.5)).abs().max()) == 0.0
    assert float(_fit(torch.cat([x, x]), torch.cat([torch.ones(6), torch.zeros(6)])).abs().max()) < 1e-9


def test_a_pair_counts_as_often_as_people_judged_it() -> None:
    """A pair counted three times equals three copies of it, and one counted zero times isn't there."""
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(3))
    p = torch.tensor([1.0, 0.6, 1.0, 0.0])
    counted = _fit(x, p, torch.tensor([[3.0], [1.0], [1.0], [0.0]]))
    copied = _fit(x[[0, 0, 0, 1, 2]], p[[0, 0, 0, 1, 2]])
    torch.testing.assert_close(counted, copied, rtol=0, atol=1e-5)


def test_losses_by_hand() -> None:
    """Log-odds of ln 3 cost ln(4/3) if the favourite wins, and ln 4 if it loses; a tie costs their mean."""
    found = pair_losses(torch.full((3,), math.log(3)), torch.tensor([1.0, 0.0, 0.5]))
    by_hand = [math.log(4 / 3), math.log(4), (math.log(4 / 3) + math.log(4)) / 2]
    assert found.tolist() == pytest.approx(by_hand)
