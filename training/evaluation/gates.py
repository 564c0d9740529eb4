"""What a reward model and a policy must show before they go on."""

from __future__ import annotations

import math
from dataclasses import dataclass

from training.config import GateConfig
from training.evaluation.intervals import accuracy_with_interval
from training.evaluation.policy import PolicyEvaluation


@dataclass(frozen=True, slots=True)
class GateResult:
    """Whether a model may go on, and why, in a sentence for people."""

    passed: bool
    reason: str


def reward_gate(winners: int, right: float, held_out: int, gates: GateConfig) -> GateResult:
    """Whether a reward model ranks held-out pairs well enough to learn from.

    Args:
        winners: preferences with a winner, of all parts.
        right: how many of the held-out ones the model ranks as people did.
        held_out: how many of them there are.
        gates: what is asked for.
    """
    if winners < gates.min_preferences:
        return GateResult(
            False, f"{winners} preferences with a winner are fewer than the {gates.min_preferences} asked for."
        )
    accuracy, (low, high) = accuracy_with_interval(right, held_out)
    if accuracy is None:
        return GateResult(False, "No held-out pair has a winner, so nothing shows how good the reward model is.")
    measure = (
        f"The reward model ranks {accuracy:.0%} of {held_out} held-out pairs correctly "
        f"(95% interval {low:.0%} to {high:.0%})"
    )
    if not accuracy >= gates.min_reward_accuracy:
        return GateResult(False, f"{measure}, less than the {gates.min_reward_accuracy:.0%} asked for.")
    return GateResult(True, f"{measure}; at least {gates.min_reward_accuracy:.0%} was asked for.")


def policy_gate(found: PolicyEvaluation, gates: GateConfig) -> GateResult:
    """Whether a policy is better than its base on held-out prompts, and near enough to it.

    Args:
        found: how its answers compare with the base's.
        gates: what is asked for.
    """
    win_rate, kl_nats = found.win_rate_vs_base, found.kl_nats
    low, high = found.win_rate_interval
    if win_rate is None or kl_nats is None:
        return GateResult(False, "There is no held-out prompt, so nothing shows whether the policy became better.")
    if not (math.isfinite(win_rate) and math.isfinite(kl_nats)):
        return GateResult(False, f"The measurements aren't numbers (win rate {win_rate}, KL {kl_nats}).")
    if kl_nats > gates.max_kl_nats:
        return GateResult(
            False, f"The policy moved {kl_nats:.1f} nats from the base, more than the {gates.max_kl_nats:g} allowed."
        )
    measure = (
        f"The policy's answers score higher than the base's on {win_rate:.0%} of {found.evaluated_prompts} held-out "
        f"prompts (95% interval {low:.0%} to {high:.0%})"
    )
    if win_rate < gates.min_win_rate:
        return GateResult(False, f"{measure}, less than the {gates.min_win_rate:.0%} asked for.")
    return GateResult(True, f"{measure}, {kl_nats:.1f} nats from the base.")
