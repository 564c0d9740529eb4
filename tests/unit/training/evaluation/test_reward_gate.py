"""Intervals of accuracy by prompt, and the reward model's gate: what they promise, simulated."""

from __future__ import annotations

import pytest
import torch

from training.config import GateConfig
from training.evaluation.gates import reward_gate
from training.evaluation.intervals import Accuracy, accuracy_with_interval, clustered_accuracy
from training.models.probe import Site
from training.reward.choose import fit_ensemble
from training.reward.folds import Folds


def test_one_pair_a_prompt_is_nearly_wilsons_interval() -> None:
    """With 80 of 100 pairs right, each of its own prompt, only Student's quantile makes it a little wider."""
    found = clustered_accuracy(torch.arange(100) < 80, torch.arange(100))
    low, high = accuracy_with_interval(80, 100)[1]
    assert (found.accuracy, found.pairs, found.prompts) == (0.8, 100, 100)
    assert found.interval == (pytest.approx(low, abs=0.003), pytest.approx(high, abs=0.003))
    assert found.interval[0] < low


def test_pairs_that_stand_and_fall_together_count_once() -> None:
    """Twenty prompts of five pairs, all right or all wrong together, are worth twenty pairs."""
    groups = torch.arange(20).repeat_interleave(5)
    together = clustered_accuracy(groups < 16, groups)
    alone = clustered_accuracy(torch.arange(20) < 16, torch.arange(20))
    assert together.accuracy == 0.8
    assert together.interval == (pytest.approx(alone.interval[0], abs=0.01), pytest.approx(alone.interval[1], abs=0.01))
    certain = clustered_accuracy(torch.ones(100), groups)
    assert certain.interval[0] == pytest.approx(accuracy_with_interval(20, 20)[1][0], abs=0.03)


def test_nothing_and_one_prompt() -> None:
    """Without pairs anything is possible; within one prompt the pairs are taken as they are."""
    assert clustered_accuracy(torch.zeros(0), torch.zeros(0)) == Accuracy(None, (0.0, 1.0), 0)
    assert clustered_accuracy(torch.ones(4), torch.zeros(4)).interval == accuracy_with_interval(4, 4)[1]


@pytest.mark.parametrize(("prompts", "each"), [(150, 1), (50, 3), (20, 5)])
def test_the_interval_covers_the_truth(prompts: int, each: int) -> None:
    """In 500 simulations with prompts of different difficulty, 93% or more of the intervals contain the mean, 0.75."""
    draw = torch.Generator().manual_seed(prompts)
    groups = torch.arange(prompts).repeat_interleave(each)
    covered = 0
    for _ in range(500):
        difficulty = torch.rand(prompts, generator=draw) * 0.5 + 0.5
        right = torch.rand(len(groups), generator=draw) < difficulty[groups]
        low, high = clustered_accuracy(right, groups).interval
        covered += low <= 0.75 <= high
    assert covered / 500 >= 0.93


def test_a_coin_flip_rarely_passes() -> None:
    """Of 200 reward models cross-validated on verdicts by coin flip, choices and all, at most 5% pass the gate."""
    draw = torch.Generator().manual_seed(0)
    pairs, size, passed = 40, 6, 0
    folds = Folds(torch.arange(pairs) % 3, torch.arange(pairs), 3, by_prompt=True)
    for _ in range(200):
        parts = torch.randn(3, pairs, size, generator=draw, dtype=torch.float64) / size**0.5
        verdicts = (torch.rand(pairs, generator=draw) < 0.5).float()
        found = fit_ensemble(
            lambda sites, rows, parts=parts: parts[sites[0].depth, rows],
            [[(Site(depth, "mean"),) for depth in range(3)]],
            verdicts,
            torch.ones(pairs),
            folds,
        )
        right = (found.out_of_fold > 0) == (verdicts == 1)
        accuracy = clustered_accuracy(right & (found.out_of_fold != 0), folds.groups)
        passed += reward_gate(pairs, accuracy, GateConfig(), folds=3)["passed"]
    assert passed <= 10


def test_cross_validation_needs_a_wider_margin_by_hand() -> None:
    """Of five parts, chance must be 1.5 times as far away as a one-sided bound says: 0.62 - 1.5 * 0.84 * 0.11 is below
    a half, and 0.62 - 0.84 * 0.11 isn't.
    """
    found = Accuracy(0.62, (0.51, 0.72), 80, 80)
    assert reward_gate(80, found, GateConfig())["passed"]
    refused = reward_gate(80, found, GateConfig(), folds=5)
    assert not refused["passed"]
    assert "may be chance" in refused["reason"]
    assert reward_gate(80, Accuracy(0.75, (0.64, 0.83), 80, 80), GateConfig(), folds=5)["passed"]
