"""The gates' promises, by the simulations of `make bench BENCH_ARGS="--only calibration"` with fewer repetitions."""

from __future__ import annotations

import pytest
import torch

from benchmarks import calibration
from training.data.types import Preference
from training.reward.features import PairFeatures
from training.reward.folds import PROMPTS_TO_SPARE_A_PART


def _random_features(pairs: int, depths: int = 2, size: int = 6) -> PairFeatures:
    """Answers whose activations are noise, read at a few depths by both pools."""
    pooled = torch.randn(2 * pairs, 2 * depths, size, generator=torch.Generator().manual_seed(0))
    return PairFeatures(
        places=torch.arange(2 * pairs).view(pairs, 2),
        pooled=pooled,
        depths=tuple(range(depths)),
        trunk=[],
        p_chosen=torch.ones(pairs),
        votes=torch.ones(pairs),
        answer_tokens=torch.ones(pairs, 2, dtype=torch.long),
        scale=torch.ones(2 * depths, size, dtype=torch.float64),
    )


def test_coin_flips_rarely_make_a_reward_model() -> None:
    """Of 100 reward models of 40 coin flips on two pairs a prompt, families and all, at most 5% pass."""
    preferences = [Preference(f"What is {pair // 2}?", "tea", "egg") for pair in range(80)]
    assert calibration.coin_flips(_random_features(80), preferences, pairs=40, cycles=100) <= 0.05


@pytest.mark.parametrize("prompts", [8, 30])
def test_an_equal_challenger_is_rarely_promoted(prompts: int) -> None:
    """Of 400 that answer just as the champion does, at most 5%."""
    assert calibration.equal_challengers(prompts, cycles=400) <= 0.05


def test_a_judge_that_is_apart_is_fooled_less() -> None:
    """A policy that exploits a reward model of coin flips convinces a judge of the same pairs, others by luck."""
    apart = calibration.hollow_policies(PROMPTS_TO_SPARE_A_PART, cycles=40)
    shared = calibration.hollow_policies(PROMPTS_TO_SPARE_A_PART // 2, cycles=40)
    assert shared > 2 * apart
