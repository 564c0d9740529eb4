"""How certain a share is, and what passes the gates."""

from __future__ import annotations

import math
from dataclasses import asdict, replace

import pytest

from training.config import GateConfig
from training.evaluation.gates import Gate, policy_gate
from training.evaluation.gates import reward_gate as decide
from training.evaluation.intervals import accuracy_with_interval
from training.ppo.report import PPOReport
from training.reward.report import RewardReport

REWARD = RewardReport(
    accuracy={"train": 0.9, "selection": 0.8, "test": 0.6},
    accuracy_interval=(0.3, 0.85),
    n={"train": 40, "selection": 22, "test": 20},
    ties={"train": 4, "selection": 2, "test": 0},
    curve=(),
    best_epoch=1,
    temperature=1.0,
    calibration_error=None,
    length_correlation=None,
)
POLICY = PPOReport(
    kl_nats=8.0,
    win_rate_vs_base=0.7,
    win_rate_interval=(0.55, 0.82),
    answer_tokens=20.0,
    base_answer_tokens=25.0,
    reward_mean=1.0,
    evaluated_prompts=40,
    iterations=10,
    stopped=None,
    curve=(),
)
GATES = GateConfig(min_preferences=20, min_reward_accuracy=0.65, min_win_rate=0.6, max_kl_nats=20.0)


def reward_gate(report: RewardReport, gates: GateConfig) -> Gate:
    """The gate's decision on a report, as a cycle calls it."""
    return decide(sum(report.winners.values()), report.held_out(), gates)


def test_wilson_interval_by_hand() -> None:
    """For 8 of 10, Wilson's interval is 0.490 to 0.943; at the ends it stays within [0, 1]."""
    share, (low, high) = accuracy_with_interval(8, 10)
    assert share == 0.8
    assert (low, high) == (pytest.approx(0.490, abs=5e-4), pytest.approx(0.943, abs=5e-4))
    assert accuracy_with_interval(0, 5)[1] == (0.0, pytest.approx(0.434, abs=5e-4))
    assert accuracy_with_interval(5, 5)[1] == (pytest.approx(0.566, abs=5e-4), 1.0)


def test_nothing_measured_is_no_accuracy() -> None:
    """With no pairs the share is unknown, and anything is possible."""
    assert accuracy_with_interval(0, 0) == (None, (0.0, 1.0))


def test_the_reward_gate_measures_both_held_out_parts() -> None:
    """16 of 20 selection pairs and 12 of 20 test pairs are 70% of 40; ties don't count."""
    result = reward_gate(REWARD, GATES)
    assert result["passed"]
    assert "70% of 40 held-out pairs" in result["reason"]
    refused = reward_gate(REWARD, GATES.model_copy(update={"min_reward_accuracy": 0.71}))
    assert not refused["passed"]
    assert "below the required 71%" in refused["reason"]


def test_too_few_preferences_dont_pass() -> None:
    """Ties teach nothing about which answer is better, so only pairs with a winner count: 76 here."""
    assert reward_gate(REWARD, GATES.model_copy(update={"min_preferences": 76}))["passed"]
    refused = reward_gate(REWARD, GATES.model_copy(update={"min_preferences": 77}))
    assert not refused["passed"]
    assert "Only 76 preferences have a winner; at least 77" in refused["reason"]


def test_a_reward_model_that_nothing_was_held_out_for_doesnt_pass() -> None:
    """Without held-out pairs the accuracy is unknown."""
    unmeasured = replace(
        REWARD,
        accuracy={"train": 0.9, "selection": None, "test": None},
        n={"train": 60, "selection": 2, "test": 0},
        ties={"train": 0, "selection": 2, "test": 0},
    )
    result = reward_gate(unmeasured, GATES)
    assert not result["passed"]
    assert "No held-out pair" in result["reason"]


def test_the_policy_gate() -> None:
    """A better policy near its base passes; each failure is reported with its number."""
    assert policy_gate(POLICY, GATES)["passed"]
    for change, words in (
        ({"win_rate_vs_base": 0.5}, "50% of 40 held-out prompts"),
        ({"kl_nats": 21.0}, "21.0 nats"),
        ({"kl_nats": None}, "No prompt was held out"),
        ({"win_rate_vs_base": None}, "No prompt was held out"),
        ({"kl_nats": math.nan}, "NaN or infinite"),
    ):
        result = policy_gate(replace(POLICY, **change), GATES)  # type: ignore[arg-type]  # one field of its own type
        assert not result["passed"]
        assert words in result["reason"]


def test_reports_come_back_from_json_for_the_gates() -> None:
    """A gate decides the same on a report read back from its file."""
    assert PPOReport.from_json(asdict(POLICY)) == POLICY
    assert RewardReport.from_json(asdict(REWARD)) == REWARD
    assert RewardReport.from_json({**asdict(REWARD), "score_mean": 0.0, "score_std": 1.0}) == REWARD  # an older one
