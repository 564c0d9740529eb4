"""The health numbers of reinforcement learning, worked out by hand."""

from __future__ import annotations

import pytest
import torch

from training.diagnostics import distinct_2, explained_variance


def test_distinct_2_counts_pairs_of_real_tokens() -> None:
    """1-2, 2-1, 1-2 and 1-2 are four pairs of two kinds; what stands at padding isn't counted."""
    tokens = torch.tensor([[1, 2, 1, 2], [1, 2, 7, 8]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]], dtype=torch.bool)
    assert distinct_2(tokens, mask) == 0.5
    assert distinct_2(tokens[:, :1], mask[:, :1]) == 0.0


def test_explained_variance() -> None:
    """Perfect values explain everything, a constant nothing, the opposite less than nothing."""
    returns = torch.tensor([1.0, 2.0, 3.0])
    assert explained_variance(returns, returns) == pytest.approx(1.0)
    assert explained_variance(torch.ones(3), returns) == pytest.approx(0.0)
    assert explained_variance(-returns, returns) == pytest.approx(-3.0)
    assert explained_variance(returns, torch.ones(3)) is None
