"""Where rewards start: what an answer to a prompt can be expected to score."""

from __future__ import annotations

import pytest
import torch

from training.ppo.baseline import pooled_spread, shrunk_means


def test_means_are_drawn_towards_each_other_by_hand() -> None:
    """Means 2 and 6 vary by 8, of which 1 is the noise of two answers; so they keep 7/8 of their distance from 4."""
    torch.testing.assert_close(shrunk_means(torch.tensor([[1.0, 3.0], [5.0, 7.0]])), torch.tensor([2.25, 5.75]))


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([[0.0, 2.0], [2.0, 0.0]], [1.0, 1.0]),
        ([[0.0, 4.0], [3.0, 3.0]], [2.5, 2.5]),  # means 2 and 3 differ by less than their noise
        ([[1.0, 1.0], [5.0, 5.0]], [1.0, 5.0]),
        ([[1.0, 4.0]], [2.5]),
    ],
)
def test_prompts_that_differ_by_no_more_than_chance_share_an_origin(
    scores: list[list[float]], expected: list[float]
) -> None:
    """With noise alone all start from the mean of all, without noise each from its own; a single one has only that."""
    torch.testing.assert_close(shrunk_means(torch.tensor(scores)), torch.tensor(expected))


def test_drawn_means_are_nearer_to_the_truth_than_plain_ones() -> None:
    """With two answers, and as much variance between prompts as within, a third of the squared error goes."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(2000, generator=generator)
    scores = truth[:, None] + torch.randn(2000, 2, generator=generator)
    plain = float((scores.mean(dim=1) - truth).square().mean())
    drawn = float((shrunk_means(scores) - truth).square().mean())
    assert drawn == pytest.approx(plain * 2 / 3, rel=0.05)
    assert pooled_spread(scores) == pytest.approx(1.0, rel=0.05)
