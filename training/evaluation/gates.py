"""The gates that a reward model and a policy must pass."""

from __future__ import annotations

import math
from typing import TypedDict

from training.config import GateConfig
from training.evaluation.intervals import Accuracy
from training.evaluation.policy import PolicyEvaluation

_CHANCE = 0.5
_ONE_SIDED = 1.645 / 1.96
"""How far below an accuracy chance must lie, as a share of its 95% interval's reach: a gate isn't concerned with errors
on the other side, so its bound is one-sided.
"""


class Gate(TypedDict):
    """Whether a model passes, and why, in a sentence for people; serialisable as JSON."""

    passed: bool
    reason: str


def reward_gate(winners: int, found: Accuracy, gates: GateConfig, *, folds: int = 0) -> Gate:
    """Whether a reward model ranks pairs that it didn't learn from well enough to train a policy with.

    Its accuracy must reach the threshold, and be better than chance beyond doubt: its one-sided lower bound at 95%,
    lowered for what the parts of a cross-validation have in common, must not be below one half (or the threshold, if
    that is lower).

    Args:
        winners: how many preferences have a winner, in all parts.
        found: the accuracy on pairs it didn't learn from.
        gates: the thresholds.
        folds: into how many parts the pairs were dealt for cross-validation, 0 if they were set aside.
    """
    if winners < gates.min_preferences:
        return _refused(f"Only {winners} preferences have a winner; at least {gates.min_preferences} are required.")
    accuracy, (low, high) = found.accuracy, found.interval
    if accuracy is None:
        return _refused("No held-out pair has a winner, so the reward model's accuracy is unknown.")
    measure = (
        f"The reward model ranks {accuracy:.0%} of {found.pairs} held-out pairs correctly "
        f"(95% interval {low:.0%} to {high:.0%})"
    )
    if not accuracy >= gates.min_reward_accuracy:
        return _refused(f"{measure}, below the required {gates.min_reward_accuracy:.0%}.")
    surely = accuracy - _ONE_SIDED * _shared_luck(folds) * (accuracy - low)
    if surely < min(_CHANCE, gates.min_reward_accuracy):
        return _refused(
            f"{measure}, which may be chance: allowing for what cross-validation's parts have in common, its lower "
            f"bound is {surely:.0%}. Judge more pairs."
        )
    return Gate(passed=True, reason=f"{measure}; at least {gates.min_reward_accuracy:.0%} is required.")


def policy_gate(
    found: PolicyEvaluation, gates: GateConfig, *, stopped: str | None = None, learned: bool = True
) -> Gate:
    """Whether a policy beats the champion on held-out prompts while staying close enough to its reference.

    Args:
        found: the comparison of its answers with the champion's.
        gates: the thresholds.
        stopped: why its training ended early, if it did.
        learned: whether the kept policy was trained at all.
    """
    if not learned:
        return _refused(f"Training ended before the policy had learned anything. {stopped or ''}".strip())
    win_rate, kl_nats, tokens = found.win_rate_vs_champion, found.kl_nats, found.base_answer_tokens
    if win_rate is None or kl_nats is None:
        return _refused("No prompt was held out, so it is unknown whether the policy improved.")
    if not (math.isfinite(win_rate) and math.isfinite(kl_nats)):
        return _refused(f"The measurements are NaN or infinite (win rate {win_rate}, KL {kl_nats}).")
    largest = gates.largest_kl(tokens or 1.0)
    if kl_nats > largest:
        return _refused(f"The policy moved {kl_nats:.1f} nats from the base, more than the {largest:.3g} allowed.")
    prompts, (low, high) = found.evaluated_prompts, found.champion_interval
    if gates.min_win_rate == 0.0:
        return Gate(passed=True, reason=f"Any policy passes, as gates.min_win_rate is 0; {kl_nats:.1f} nats.")
    if prompts < gates.min_held_out_prompts:
        return _refused(
            f"Not enough held-out prompts to tell whether the policy beats the champion: {prompts}, "
            f"at least {gates.min_held_out_prompts} are needed. Three in ten prompts are held out, so add prompts."
        )
    measure = (
        f"The policy's answers beat the champion's in {win_rate:.0%} of comparisons on {prompts} held-out prompts "
        f"(95% interval {low:.0%} to {high:.0%})"
    )
    if low > gates.min_win_rate:
        return Gate(passed=True, reason=f"{measure}, {kl_nats:.1f} nats from the base.")
    required = f"the interval must lie above {gates.min_win_rate:.0%}"
    if win_rate <= gates.min_win_rate:
        return _refused(f"{measure}; {required}.")
    needed = math.ceil(prompts * ((win_rate - low) / (win_rate - gates.min_win_rate)) ** 2) + 1
    return _refused(
        f"{measure}; {required}. To confirm a gain of this size, about {needed} held-out prompts are needed."
    )


def _refused(reason: str) -> Gate:
    return Gate(passed=False, reason=reason)


def _shared_luck(folds: int) -> float:
    """How much farther than its interval says chance may lie from a cross-validated accuracy.

    The models of five parts share three pairs in four, so what is luck in one part is luck in the others.

    Reference: Nadeau & Bengio 2003, "Inference for the generalization error", section 3.
    """
    return math.sqrt(1 + folds / (folds - 1)) if folds > 1 else 1.0
