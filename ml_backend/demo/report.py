"""The demo's results: one row of figures per version, as a table for people and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ml_backend.demo.contest import ContestFigures
from ml_backend.demo.evaluation import FreshAnswers, Shares
from ml_backend.registry import Version
from training.atomic import write_atomically

COLUMNS = ("version", "annotations", "reward accuracy", "KL (nats)", "win rate", "preferred", "ties", "tokens", "words")
LEGEND = (
    "reward accuracy: of the reward model on held-out pairs, with its 95% interval. win rate: against the base, as the "
    "reward model sees it. preferred: share of fresh answers that the annotator, without noise, prefers to the base's "
    "on prompts never trained on. tokens: mean length of an answer. words: how many different words there are in all "
    "answers."
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
    distinct_words: how many different words the fresh answers have.
    cut_share: share of the fresh answers that were cut off at the length limit.
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
    distinct_words: int
    cut_share: float


@dataclass(frozen=True, slots=True)
class BeforeAndAfter:
    """One held-out question, with an answer from the base and one from the latest version."""

    prompt: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class DemoReport:
    """The whole demo.

    versions: their figures, the base's first.
    predictions_by_version: how many there are in Label Studio.
    seconds: by phase.
    model: the base model.
    chat_template: whether it was prompted through its chat template.
    examples: answers of the base and of the latest version.
    second: with two tastes, the report of the second project; the rest is the first one's.
    contests: those that the annotator decided, where people promote.
    """

    versions: Sequence[VersionFigures]
    predictions_by_version: Mapping[str, int]
    seconds: Mapping[str, float]
    model: str
    chat_template: bool
    examples: Sequence[BeforeAndAfter] = ()
    second: DemoReport | None = None
    contests: Sequence[ContestFigures] = ()

    def write(self, path: Path) -> None:
        """Write the report as JSON: with two tastes, also under `lines`, one entry each with its last version's
        `preferred_share` under its own taste.
        """
        content = {
            "model": self.model,
            "chat_template": self.chat_template,
            **self._content(),
            "seconds": {phase: round(seconds, 1) for phase, seconds in self.seconds.items()},
        }
        if self.contests:
            content["contests"] = [asdict(figures) for figures in self.contests]
        if self.second is not None:
            content["lines"] = [report.of_line() for report in (self, self.second)]
        write_atomically(path, json.dumps(content, indent=2) + "\n")

    def of_line(self) -> dict[str, Any]:
        """One project's part of the report."""
        last = self.versions[-1]
        return {"champion": last.version, "preferred_share": last.preferred_share, **self._content()}

    def rows(self) -> list[tuple[str, ...]]:
        """The table's rows, in the order of `COLUMNS`; those of the second taste come last."""
        return [*map(_row, self.versions), *(self.second.rows() if self.second else [])]

    def _content(self) -> dict[str, Any]:
        versions = [asdict(figures) for figures in self.versions]
        return {
            "versions": versions,
            "predictions_by_version": dict(self.predictions_by_version),
            "examples": [asdict(example) for example in self.examples],
        }


def base_figures(version: Version, answers: FreshAnswers, shares: Shares) -> VersionFigures:
    """The base's row: it has learned nothing, and wins against itself as often as it loses."""
    return VersionFigures(version=version.name, tie_share=shares.tied, **_answer_figures(answers))


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
        preferred_share=shares.preferred,
        tie_share=shares.tied,
        **_answer_figures(answers),
    )


def _answer_figures(answers: FreshAnswers) -> dict[str, Any]:
    return {
        "answer_tokens": answers.answer_tokens,
        "distinct_words": answers.distinct_words,
        "cut_share": answers.cut_share,
    }


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
        str(figures.distinct_words),
    )
