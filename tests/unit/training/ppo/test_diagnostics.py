"""The health metrics of reinforcement learning, worked out by hand."""

from __future__ import annotations

import pytest
import torch

from training.ppo.diagnostics import explained_variance


def test_explained_variance() -> None:
    """Perfect values explain all variance, a constant none, and negated ones less than none."""
    returns = torch.tensor([1.0, 2.0, 3.0])
    assert explained_variance(returns, returns) == pytest.approx(1.0)
    assert explained_variance(torch.ones(3), returns) == pytest.approx(0.0)
    assert explained_variance(-returns, returns) == pytest.approx(-3.0)
    assert explained_variance(returns, torch.ones(3)) is None
