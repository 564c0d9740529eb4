"""The results of reinforcement learning, as numbers and plots."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from training.atomic import write_atomically
from training.evaluation import PolicyEvaluation, draw_frontier
from training.runs import Panel, draw_curves

_PANELS = {
    "reward": {"reward": "reward"},
    "KL from the base, nats per sequence": {"k1": "kl_nats", "k3": "kl_k3_nats"},
    "answer length, tokens": {"tokens": "answer_tokens"},
    "entropy, nats per token": {"entropy": "entropy_nats"},
    "share of clipped tokens": {"clipped": "clip_share"},
    "explained variance": {"explained variance": "explained_variance"},
    "ratio of new to old probability": {"largest": "ratio_max", "smallest": "ratio_min"},
    "share of answers, of n-grams": {
        "ended": "ended_share",
        "distinct bigrams": "distinct_2",
        "repeated 4-grams": "repetition",
        "alike between prompts": "similarity",
    },
    "reward penalties": {"KL": "kl_penalty", "missing EOS": "eos_penalty"},
}
"""Each panel's lines and the fields of `PPOPoint` that they show."""
_PAIR_PANELS = {
    "log-ratio to the reference, nats": {"chosen": "chosen_nats", "rejected": "rejected_nats"},
    "pairs ordered as people did": {"learned": "pair_accuracy", "held out": "held_out_pair_accuracy"},
}
"""Likewise, for DPO alone."""


@dataclass(frozen=True, slots=True)
class PPOPoint:
    """One iteration, measured on its samples before the update (losses, clipping, ratios and gradients: during it).

    reward: mean score on the normalised scale, missing-EOS penalty included; PPO maximises reward - kl_penalty.
    score: mean raw score of the reward model.
    eos_penalty, kl_penalty: mean penalties per sequence.
    kl_nats, kl_k3_nats: KL from the base per sequence, by the log-ratio and by its low-variance estimate.
    kl_coefficient: beta in this iteration.
    entropy_nats: mean entropy of the policy at an answer token.
    answer_tokens: mean length, end of text included.
    ended_share: share of answers that reached their end of text.
    distinct_1, distinct_2: distinct unigrams and bigrams as a share of all in the batch.
    repetition: mean share of an answer's 4-grams that occurred in it before.
    similarity: how alike answers to different prompts are; None where there is one prompt, or in older reports.
    explained_variance: of the returns by the values; None where the algorithm has no value function.
    first_ratio_gap: largest |ratio - 1| in the first minibatch; 0 up to rounding.
    ratio_min, ratio_max: smallest and largest ratio of new to old probability of a token.
    chosen_nats, rejected_nats: DPO alone: mean log-ratio to the reference of the two answers of the pairs learned from.
    pair_accuracy, held_out_pair_accuracy: DPO alone: share of pairs whose chosen answer has the larger log-ratio, of
        those learned from and of some held out (None where none has a winner).
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
    similarity: float | None = None
    chosen_nats: float | None = None
    rejected_nats: float | None = None
    pair_accuracy: float | None = None
    held_out_pair_accuracy: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PPOReport(PolicyEvaluation):
    """The policy's evaluation on held-out prompts, and its training.

    algorithm: how it was trained.
    reward_mean: mean normalised reward of the last iteration's samples.
    iterations: number of iterations that the kept policy was trained for.
    stopped: why training ended early, None if it didn't.
    truncated_prompts: how many prompts were too long and lost their beginning.
    """

    reward_mean: float | None
    iterations: int
    stopped: str | None
    curve: tuple[PPOPoint, ...]
    truncated_prompts: int = 0
    algorithm: str = "ppo"

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> PPOReport:
        """The report in a `report.json`."""
        curve = tuple(PPOPoint(**point) for point in content["curve"])
        return cls(**{**PolicyEvaluation.fields_from_json(content), "curve": curve})

    def save(self, folder: Path) -> None:
        """Write `report.json`, `curves.png` and, where best-of-n was measured, `frontier.png`."""
        steps = [point.iteration for point in self.curve]
        shown = _PANELS | (_PAIR_PANELS if self.algorithm == "dpo" else {})
        panels = [
            Panel(
                title, steps, {name: [getattr(point, field) for point in self.curve] for name, field in lines.items()}
            )
            for title, lines in shown.items()
        ]
        draw_curves(folder / "curves.png", "Reinforcement learning", panels)
        if self.best_of_n and self.kl_from_base_nats is not None:
            reached = {"gain": self.gain_on_pool, "win rate": self.win_rate_on_pool}
            draw_frontier(folder / "frontier.png", self.best_of_n, self.kl_from_base_nats, reached)
        write_atomically(folder / "report.json", json.dumps(asdict(self), indent=2) + "\n")
