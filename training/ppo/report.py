"""What reinforcement learning showed, as numbers and as a picture."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from training.atomic import write_atomically
from training.runs.curves import Panel, draw_curves


@dataclass(frozen=True, slots=True)
class PPOPoint:
    """One iteration, measured on its own samples before it learned from them (losses and ratios: while learning).

    reward: mean score on the normalised scale, missing-EOS penalty included; what is maximised is reward - kl penalty.
    score: mean raw score of the reward model.
    eos_penalty, kl_penalty: what the two took off, per sequence.
    kl_nats, kl_k3_nats: KL from the base per sequence, by the log-ratio and by its low-variance estimate.
    kl_coefficient: beta in this iteration.
    entropy_nats: mean entropy of the policy at an answer token.
    answer_tokens: mean length, end of text included.
    ended_share: answers that came to their end of text.
    distinct_1, distinct_2: different tokens, and pairs of neighbouring tokens, as a share of all, over the batch.
    repetition: mean share of an answer's stretches of 4 tokens that it had before.
    explained_variance: of the returns by the values; None where the algorithm has no value function.
    first_ratio_gap: largest |ratio - 1| in the first minibatch; 0 but for rounding.
    ratio_min, ratio_max: smallest and largest ratio of new to old probability of a token.
    """

    iteration: int
    reward: float
    score: float
    eos_penalty: float
    kl_penalty: float
    kl_nats: float
    kl_k3_nats: float
    kl_coefficient: float
    entropy_nats: float
    answer_tokens: float
    ended_share: float
    distinct_1: float
    distinct_2: float
    repetition: float
    explained_variance: float | None
    policy_loss: float
    value_loss: float
    clip_share: float
    first_ratio_gap: float
    ratio_min: float
    ratio_max: float
    gradient_norm: float


@dataclass(frozen=True, slots=True)
class PPOReport:
    """How far the policy came.

    kl_nats: KL from the base per sequence, on fresh answers to held-out prompts; None where there are none.
    win_rate_vs_base: share of held-out prompts whose fresh answer the reward model scores above a fresh answer of the
        base; None where there are none. `win_rate_interval` is its 95% Wilson interval.
    answer_tokens, base_answer_tokens: mean lengths of those answers, end of text included.
    win_rate_vs_reference, base_win_rate_vs_reference: the same against the answers people wrote; None where there are
        none. `rouge` and `base_rouge` are what the answers share with these; nothing is decided by them.
    reward_mean: mean normalised reward of the last iteration's samples.
    evaluated_prompts: how many held-out prompts were answered.
    truncated_prompts: how many prompts were too long and lost their beginning.
    iterations: how many the kept policy has behind it.
    stopped: why training ended early, None where it didn't.
    """

    kl_nats: float | None
    win_rate_vs_base: float | None
    win_rate_interval: tuple[float, float]
    answer_tokens: float | None
    base_answer_tokens: float | None
    reward_mean: float | None
    evaluated_prompts: int
    iterations: int
    stopped: str | None
    curve: tuple[PPOPoint, ...]
    win_rate_vs_reference: float | None = None
    base_win_rate_vs_reference: float | None = None
    rouge: dict[str, float] | None = None
    base_rouge: dict[str, float] | None = None
    truncated_prompts: int = 0

    def as_json(self) -> dict[str, Any]:
        """What goes into `report.json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> PPOReport:
        """The report that `as_json` wrote."""
        curve = tuple(PPOPoint(**point) for point in content["curve"])
        low, high = content["win_rate_interval"]
        return cls(**{**content, "curve": curve, "win_rate_interval": (low, high)})

    def save(self, folder: Path) -> None:
        """Write `report.json` and `curves.png`."""
        steps = [point.iteration for point in self.curve]
        curve = self.curve
        panels = [
            Panel("reward", steps, {"reward": [point.reward for point in curve]}),
            Panel(
                "KL from the base, nats a sequence",
                steps,
                {"k1": [point.kl_nats for point in curve], "k3": [point.kl_k3_nats for point in curve]},
            ),
            Panel("answer length, tokens", steps, {"tokens": [point.answer_tokens for point in curve]}),
            Panel("entropy, nats a token", steps, {"entropy": [point.entropy_nats for point in curve]}),
            Panel("share of clipped tokens", steps, {"clipped": [point.clip_share for point in curve]}),
            Panel("explained variance", steps, {"explained variance": [point.explained_variance for point in curve]}),
            Panel(
                "ratio of new to old probability",
                steps,
                {"largest": [point.ratio_max for point in curve], "smallest": [point.ratio_min for point in curve]},
            ),
            Panel(
                "share of answers, of stretches",
                steps,
                {
                    "ended": [point.ended_share for point in curve],
                    "distinct pairs": [point.distinct_2 for point in curve],
                    "repeated": [point.repetition for point in curve],
                },
            ),
            Panel(
                "taken off the reward",
                steps,
                {"KL": [point.kl_penalty for point in curve], "no end": [point.eos_penalty for point in curve]},
            ),
        ]
        draw_curves(folder / "curves.png", "Reinforcement learning", panels)
        write_atomically(folder / "report.json", json.dumps(self.as_json(), indent=2) + "\n")
