"""The demo's results: one row of figures per version, as a table for people and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ml_backend.demo.evaluation import FreshAnswers, Shares
from ml_backend.registry import Version
from training.atomic import write_atomically

COLUMNS = ("version", "annotations", "reward accuracy", "KL (nats)", "win rate", "preferred", "ties", "tokens")
LEGEND = (
    "reward accuracy: of the reward model on held-out pairs, with its 95% interval. win rate: against the base, as the "
    "reward model sees it. preferred: share of fresh answers that the annotator, without noise, prefers to the base's "
    "on prompts never trained on. tokens: mean length of an answer."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionFigures:
    """One version's figures. The defaults are the base's, which has learned nothing and has no reward model.

    annotations: how many there were when it was trained, including skips.
    reward_accuracy, reward_accuracy_interval: on pairs that the reward model didn't learn from, with its 95% interval.
    kl_nats: from the base, per answer.
    win_rate_vs_base: by the reward model's score.
    answer_tokens: mean length of fresh answers.
    preferred_share: wins / (wins + losses) against fresh answers of the base; 0.5 for the base itself.
    tie_share: ties / all, in the same comparison.
    """

    version: str
    annotations: int = 0
    reward_accuracy: float | None = None
    reward_accuracy_interval: tuple[float, float] | None = None
    kl_nats: float = 0.0
    win_rate_vs_base: float = 0.5
    answer_tokens: float
    preferred_share: float = 0.5
    tie_share: float


@dataclass(frozen=True, slots=True)
class DemoReport:
    """The whole demo: versions with the base first, predictions in Label Studio by version, seconds by phase."""

    versions: Sequence[VersionFigures]
    predictions_by_version: Mapping[str, int]
    seconds: Mapping[str, float]

    def write(self, path: Path) -> None:
        """Write the report as JSON."""
        content = {
            "versions": [asdict(figures) for figures in self.versions],
            "predictions_by_version": dict(self.predictions_by_version),
            "seconds": {phase: round(seconds, 1) for phase, seconds in self.seconds.items()},
        }
        write_atomically(path, json.dumps(content, indent=2) + "\n")

    def rows(self) -> list[tuple[str, ...]]:
        """The table's rows, in the order of `COLUMNS`."""
        return [_row(figures) for figures in self.versions]


def base_figures(version: Version, answers: FreshAnswers, shares: Shares) -> VersionFigures:
    """The base's row: it has learned nothing, and wins against itself as often as it loses."""
    return VersionFigures(version=version.name, answer_tokens=answers.answer_tokens, tie_share=shares.tied)


def trained_figures(version: Version, answers: FreshAnswers, shares: Shares) -> VersionFigures:
    """A trained version's row: the metrics from training, and what the demo measured."""
    metrics = version.metrics
    return VersionFigures(
        version=version.name,
        annotations=int(metrics["annotations"]),
        reward_accuracy=metrics.get("reward_accuracy"),
        reward_accuracy_interval=(metrics["reward_accuracy_low"], metrics["reward_accuracy_high"]),
        kl_nats=metrics["kl_nats"],
        win_rate_vs_base=metrics["win_rate_vs_base"],
        answer_tokens=answers.answer_tokens,
        preferred_share=shares.preferred,
        tie_share=shares.tied,
    )


def _row(figures: VersionFigures) -> tuple[str, ...]:
    accuracy = "-"
    if figures.reward_accuracy is not None and figures.reward_accuracy_interval is not None:
        low, high = figures.reward_accuracy_interval
        accuracy = f"{figures.reward_accuracy:.0%} ({low:.0%} to {high:.0%})"
    return (
        figures.version,
        str(figures.annotations),
        accuracy,
        f"{figures.kl_nats:.1f}",
        f"{figures.win_rate_vs_base:.0%}",
        f"{figures.preferred_share:.0%}",
        f"{figures.tie_share:.0%}",
        f"{figures.answer_tokens:.1f}",
    )
