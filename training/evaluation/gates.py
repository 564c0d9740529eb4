"""How sure a measured share is, and the gates that a reward model and a policy must pass before they go on."""

from __future__ import annotations

import math
from dataclasses import dataclass

from training.config import GateConfig
from training.data.types import Split
from training.ppo.report import PPOReport
from training.reward.report import RewardReport

_Z_95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class GateResult:
    """Whether a model may go on, and why, in a sentence for people."""

    passed: bool
    reason: str


def accuracy_with_interval(right: float, total: int) -> tuple[float | None, tuple[float, float]]:
    """A share and its 95% Wilson interval; with nothing measured, None and the whole of [0, 1].

    Args:
        right: how many were right or won; a tie may count half.
        total: of how many.

    Reference: Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    if total == 0:
        return None, (0.0, 1.0)
    share = right / total
    spread = _Z_95**2 / total
    middle = (share + spread / 2) / (1 + spread)
    reach = _Z_95 * math.sqrt(share * (1 - share) / total + spread / (4 * total)) / (1 + spread)
    return share, (max(0.0, middle - reach), min(1.0, middle + reach))


def reward_gate(report: RewardReport, gates: GateConfig) -> GateResult:
    """Whether a reward model orders held-out pairs (selection and test) well enough to learn from.

    Both held-out parts count, since the test part of a first small round is a handful of pairs.

    Args:
        report: what its training showed.
        gates: what is asked for.
    """
    winners = {part: report.n[part] - report.ties[part] for part in report.n}
    if sum(winners.values()) < gates.min_preferences:
        return GateResult(
            False,
            f"{sum(winners.values())} preferences with a winner are fewer than the {gates.min_preferences} asked for.",
        )
    held_out = {part: winners[part] for part in (Split.SELECTION.value, Split.TEST.value)}
    right = sum((report.accuracy[part] or 0.0) * count for part, count in held_out.items())
    accuracy, (low, high) = accuracy_with_interval(right, sum(held_out.values()))
    if accuracy is None:
        return GateResult(False, "No held-out pair has a winner, so nothing shows how good the reward model is.")
    measure = (
        f"The reward model orders {accuracy:.0%} of {sum(held_out.values())} held-out pairs rightly "
        f"(95% interval {low:.0%} to {high:.0%})"
    )
    if not accuracy >= gates.min_reward_accuracy:
        return GateResult(False, f"{measure}, less than the {gates.min_reward_accuracy:.0%} asked for.")
    return GateResult(True, f"{measure}; at least {gates.min_reward_accuracy:.0%} was asked for.")


def policy_gate(report: PPOReport, gates: GateConfig) -> GateResult:
    """Whether a policy is better than its base on held-out prompts, and near enough to it.

    Args:
        report: what its training showed.
        gates: what is asked for.
    """
    win_rate, kl_nats = report.win_rate_vs_base, report.kl_nats
    low, high = report.win_rate_interval
    if win_rate is None or kl_nats is None:
        return GateResult(False, "There is no held-out prompt, so nothing shows whether the policy became better.")
    if not (math.isfinite(win_rate) and math.isfinite(kl_nats)):
        return GateResult(False, f"The measurements aren't numbers (win rate {win_rate}, KL {kl_nats}).")
    if kl_nats > gates.max_kl_nats:
        return GateResult(
            False, f"The policy moved {kl_nats:.1f} nats from the base, more than the {gates.max_kl_nats:g} allowed."
        )
    measure = (
        f"The policy's answers score higher than the base's on {win_rate:.0%} of {report.evaluated_prompts} held-out "
        f"prompts (95% interval {low:.0%} to {high:.0%})"
    )
    if win_rate < gates.min_win_rate:
        return GateResult(False, f"{measure}, less than the {gates.min_win_rate:.0%} asked for.")
    return GateResult(True, f"{measure}, {kl_nats:.1f} nats from the base.")
