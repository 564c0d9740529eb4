"""How certain a share is, and what passes the gates."""

from __future__ import annotations

import math
from dataclasses import asdict, replace

import pytest
import torch
from torch import Tensor

from training.config import GateConfig
from training.evaluation.best_of_n import BestOfN, best_of_n_curve, win_shares
from training.evaluation.frontier import verdict
from training.evaluation.gates import Gate, policy_gate
from training.evaluation.gates import reward_gate as decide
from training.evaluation.intervals import accuracy_with_interval, mean_with_interval, student_t_95
from training.evaluation.policy import Example
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
    win_rate_vs_base=0.9,
    win_rate_interval=(0.8, 1.0),
    win_rate_vs_champion=0.7,
    champion_interval=(0.62, 0.78),
    answer_tokens=20.0,
    base_answer_tokens=25.0,
    reward_mean=1.0,
    evaluated_prompts=40,
    iterations=10,
    stopped=None,
    curve=(),
    examples=(Example("How?", "So.", "Thus.", "Like this.", 0.1, 0.2, 0.3),),
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
    """A policy that surely beats the champion near its base passes; each failure is reported with its number."""
    passed = policy_gate(POLICY, GATES)
    assert passed["passed"]
    assert "beat the champion's in 70% of comparisons on 40 held-out prompts" in passed["reason"]
    for change, words in (
        ({"win_rate_vs_champion": 0.5, "champion_interval": (0.4, 0.6)}, "50% of comparisons on 40 held-out prompts"),
        ({"champion_interval": (0.6, 0.8)}, "the interval must lie above 60%"),
        ({"kl_nats": 21.0}, "21.0 nats"),
        ({"kl_nats": None}, "No prompt was held out"),
        ({"win_rate_vs_champion": None}, "No prompt was held out"),
        ({"kl_nats": math.nan}, "NaN or infinite"),
        ({"evaluated_prompts": 7}, "7, at least 8 are needed"),
    ):
        result = policy_gate(replace(POLICY, **change), GATES)  # type: ignore[arg-type]  # one field of its own type
        assert not result["passed"]
        assert words in result["reason"]


def test_the_gate_says_how_many_prompts_would_tell() -> None:
    """At 55% +- 10% on 40 prompts against a threshold of 50%, four times as many halve the interval."""
    unsure = replace(POLICY, win_rate_vs_champion=0.55, champion_interval=(0.45, 0.65))
    result = policy_gate(unsure, GateConfig())
    assert not result["passed"]
    assert "about 161 held-out prompts are needed" in result["reason"]


def test_a_run_that_learned_nothing_makes_no_version() -> None:
    """However lucky its figures, with the reason why it stopped."""
    result = policy_gate(POLICY, GATES, stopped="After iteration 0: too far.", learned=False)
    assert not result["passed"]
    assert result["reason"] == "Training ended before the policy had learned anything. After iteration 0: too far."


def test_a_limit_without_nats_grows_with_the_answers() -> None:
    """At 1 nat per token, answers of 25 tokens allow 25 nats, and answers of 5 tokens don't."""
    gates = GateConfig(max_kl_nats_per_token=1.0)
    assert policy_gate(POLICY, gates)["passed"]
    assert (
        "8.0 nats from the base, more than the 5"
        in policy_gate(replace(POLICY, base_answer_tokens=5.0), gates)["reason"]
    )


def test_a_win_rate_of_zero_lets_any_policy_pass() -> None:
    """Then there is nothing to tell, however few prompts there are."""
    assert policy_gate(replace(POLICY, evaluated_prompts=1), GateConfig(min_win_rate=0.0))["passed"]


def _win_shares(cycles: int, prompts: int, noise: str) -> Tensor:
    """Win shares (cycles, prompts) of challengers that equal their champions, with 4 answers each to each prompt."""
    generator = torch.Generator().manual_seed(prompts)
    scores = torch.randn(2, cycles, prompts, 4, generator=generator)
    if noise == "one answer":  # both always say the same, and the judge tosses a coin
        scores = scores[..., :1].expand_as(scores)
    elif noise == "mostly ties":
        scores = scores.clamp(min=1.2)
    elif noise == "skewed":
        scores = scores.exp().exp()
    return win_shares(scores[0].flatten(0, 1), scores[1].flatten(0, 1)).mean(dim=1).view(cycles, prompts)


@pytest.mark.parametrize("noise", ["normal", "one answer", "mostly ties", "skewed"])
@pytest.mark.parametrize("prompts", [8, 12, 25, 60])
def test_a_challenger_that_equals_the_champion_is_rarely_promoted(prompts: int, noise: str) -> None:
    """Of 4,000 simulated cycles at most 5% pass, from the fewest prompts that the gate accepts up."""
    assert prompts >= GateConfig().min_held_out_prompts
    mean, low, high = mean_with_interval(_win_shares(4000, prompts, noise))
    passed = low > GateConfig().min_win_rate
    assert float(passed.double().mean()) <= 0.05
    for row in range(20):  # the gate itself decides alike
        found = replace(
            POLICY,
            evaluated_prompts=prompts,
            win_rate_vs_champion=float(mean[row]),
            champion_interval=(float(low[row]), float(high[row])),
        )
        assert policy_gate(found, GateConfig())["passed"] == bool(passed[row])


def test_a_better_challenger_is_promoted() -> None:
    """One whose answers are half a deviation better is promoted in most cycles of 60 prompts."""
    generator = torch.Generator().manual_seed(0)
    ours, theirs = (torch.randn(30_000, 4, generator=generator) + shift for shift in (0.5, 0.0))
    _, low, _ = mean_with_interval(win_shares(ours, theirs).mean(dim=1).view(500, 60))
    assert float((low > 0.5).double().mean()) > 0.9


def test_students_t() -> None:
    """The table's quantiles: 2.365 at 7 degrees of freedom, 2.042 at 30; the interval of 0.4, 0.6 and so on by hand."""
    assert student_t_95(7) == pytest.approx(2.365, abs=1e-3)
    assert student_t_95(30) == pytest.approx(2.042, abs=1e-3)
    mean, low, high = mean_with_interval(torch.tensor([0.4, 0.6] * 4))
    reach = 2.3646 * (0.01 * 8 / 7 / 8) ** 0.5
    assert float(mean) == pytest.approx(0.5)
    assert float(high - mean) == pytest.approx(float(mean - low)) == pytest.approx(reach, abs=1e-4)


def test_reports_come_back_from_json_for_the_gates() -> None:
    """A gate decides the same on a report read back from its file."""
    assert PPOReport.from_json(asdict(POLICY)) == POLICY
    assert RewardReport.from_json(asdict(REWARD)) == REWARD
    assert RewardReport.from_json({**asdict(REWARD), "score_mean": 0.0, "score_std": 1.0}) == REWARD  # an older one


def test_a_report_from_before_champions_is_still_read() -> None:
    """It compared with the base alone, which then stands for the champion."""
    old = {name: value for name, value in asdict(POLICY).items() if name not in _NEW}
    read = PPOReport.from_json(old)
    assert (read.win_rate_vs_champion, read.champion_interval) == (0.9, (0.8, 1.0))
    assert read.best_of_n == ()


_NEW = {
    "examples",
    "win_rate_vs_champion",
    "champion_interval",
    "best_of_n",
    "verdict",
    "algorithm",
    "similarity",
    "answers_per_prompt",
}


def test_win_shares_by_hand() -> None:
    """2 beats 1 and ties with 2; 0 beats nothing."""
    assert win_shares(torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 2.0]])).tolist() == [[0.75, 0.0]]


def test_best_of_n_of_a_pool_by_hand() -> None:
    """Of scores 0, 1, 2, 3 the best of 2 is 2.33 on average and the best of 4 is 3, above a mean of 1.5."""
    scores = torch.tensor([[1.0, 3.0, 0.0, 2.0]])
    curve = best_of_n_curve(scores, -scores, torch.tensor([[-2.5]]), spread=1.0)
    assert [point.n for point in curve] == [1, 2, 4]
    assert [point.gain for point in curve] == pytest.approx([0.0, 7 / 3 - 1.5, 1.5])
    # The judge thinks the opposite, so only 3 loses against -2.5, which is the best of 2 in half of the cases.
    assert [point.win_rate for point in curve] == pytest.approx([0.75, 0.5, 0.0])


def test_the_verdict() -> None:
    """A policy earns its KL if it wins more than the best of n does at no more KL."""
    curve = (BestOfN(1, 0.0, 0.0, 0.5), BestOfN(2, 0.19, 0.5, 0.6), BestOfN(8, 1.2, 1.4, 0.8))
    assert verdict(curve, 1.0, 0.65).startswith("The policy earns its KL. At 1.0 nats")
    assert "the best of 2 answers of the base, 60%" in verdict(curve, 1.0, 0.65)
    assert "the most that was tried, 80%" in verdict(curve, 5.0, 0.9)
    lost = verdict(curve, 5.0, 0.7)
    assert lost.startswith("The policy doesn't earn its KL.")
    assert "the best of 8 answers of the base wins 80% at 1.2 nats" in lost
    assert "wins 50% at 0.0 nats" in verdict(curve, -0.1, 0.4)
