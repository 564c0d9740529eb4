"""Temperature and calibration error, against cases worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from training.evaluation.calibration import correlation, expected_calibration_error, fit_temperature


def test_the_temperature_makes_probabilities_true() -> None:
    """Differences of 2 that hold three times in four are log-odds of ln 3, so the temperature is 2 / ln 3."""
    differences = torch.full((40,), 2.0)
    votes = torch.tensor([1.0] * 30 + [0.0] * 10)
    assert fit_temperature(differences, votes) == pytest.approx(2.0 / math.log(3.0), rel=1e-3)


def test_the_temperature_is_bounded_and_needs_data() -> None:
    """Pairs that are all correct don't drive it to zero, and a handful of pairs leaves it at 1."""
    assert fit_temperature(torch.ones(50), torch.ones(50)) == pytest.approx(0.25, rel=1e-3)
    assert fit_temperature(torch.ones(3), torch.ones(3)) == 1.0


def test_calibration_error() -> None:
    """Confidence 0.9 correct 8 times in 10, and 0.6 correct 6 times in 10: gaps of 0.1 and 0 average 0.05."""
    sure, unsure = math.log(9.0), math.log(1.5)
    differences = torch.tensor([sure] * 8 + [-sure] * 2 + [unsure] * 6 + [-unsure] * 4)
    assert expected_calibration_error(differences, torch.ones(20), 1.0, bins=4) == pytest.approx(0.05, abs=1e-6)


def test_shares_of_votes_are_what_is_calibrated() -> None:
    """Saying 60% where three people in five agree is perfect, and so is 50% for a tie; nothing is None."""
    differences = torch.tensor([math.log(1.5), -math.log(1.5), 0.0])
    assert expected_calibration_error(differences, torch.tensor([0.6, 0.4, 0.5]), 1.0) == pytest.approx(0.0, abs=1e-7)
    assert expected_calibration_error(differences[:1], torch.ones(1), 1.0) == pytest.approx(0.4)
    assert expected_calibration_error(differences[:0], torch.ones(0), 1.0) is None


def test_correlation() -> None:
    """A line gives 1, its mirror image -1, and a constant None."""
    line = torch.tensor([1.0, 2.0, 4.0])
    assert correlation(line, 3 * line + 1) == pytest.approx(1.0)
    assert correlation(line, -line) == pytest.approx(-1.0)
    assert correlation(line, torch.ones(3)) is None
    assert correlation(line[:1], line[:1]) is None
