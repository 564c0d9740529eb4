"""The results of reward-model training, as numbers and plots."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from training.atomic import write_atomically
from training.data import Split
from training.runs import Panel, draw_curves

HELD_OUT = (Split.SELECTION, Split.TEST)


@dataclass(frozen=True, slots=True)
class RewardPoint:
    """One epoch: losses in nats per pair, accuracy on the selection pairs (None where none has a winner)."""

    step: int
    train_loss: float
    validation_loss: float | None
    accuracy: float | None


@dataclass(frozen=True, slots=True)
class GroupAccuracy:
    """Accuracy on some pairs with a winner (None where there are none), its 95% Wilson interval, and how many."""

    accuracy: float | None
    interval: tuple[float, float]
    pairs: int


@dataclass(frozen=True, slots=True)
class RewardReport:
    """How good the reward model is, by split.

    accuracy: share of pairs with a winner that it ranks correctly, per split; None where a split has none.
    accuracy_interval: the 95% Wilson interval on the test split.
    n, ties: pairs per split, and how many of them are ties.
    best_epoch: the epoch whose weights were kept, counted from 1.
    temperature: score differences divided by it are calibrated log-odds.
    calibration_error: expected calibration error on the test split.
    length_correlation: Pearson's correlation of score and answer length in tokens, over all answers.
    accuracy_by_agreement: on held-out pairs (selection and test) that one person judged, that several judged alike
        (`unanimous`), and that people were `split` over.
    disagreement: mean standard deviation of the heads' score differences on held-out pairs they rank right, and wrong;
        None for a single head. Unless the second is larger, the uncertainty is uninformative.
    truncated_prompts, truncated_answers: how many texts were too long and lost their beginning, or their end.
    """

    accuracy: dict[str, float | None]
    accuracy_interval: tuple[float, float]
    n: dict[str, int]
    ties: dict[str, int]
    curve: tuple[RewardPoint, ...]
    best_epoch: int
    temperature: float
    calibration_error: float | None
    length_correlation: float | None
    accuracy_by_agreement: dict[str, GroupAccuracy] = field(default_factory=dict)
    disagreement: dict[str, float] | None = None
    truncated_prompts: int = 0
    truncated_answers: int = 0

    @property
    def winners(self) -> dict[str, int]:
        """Pairs with a winner, per split."""
        return {part: pairs - self.ties[part] for part, pairs in self.n.items()}

    def held_out(self) -> tuple[float, int]:
        """How many held-out pairs with a winner are ranked correctly, and how many there are."""
        # Both held-out splits, since the test split of a small first round is only a handful of pairs.
        held_out = {split.value: self.winners[split.value] for split in HELD_OUT}
        return sum((self.accuracy[part] or 0.0) * pairs for part, pairs in held_out.items()), sum(held_out.values())

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> RewardReport:
        """The report in a `report.json`."""
        curve = tuple(RewardPoint(**point) for point in content["curve"])
        low, high = content["accuracy_interval"]
        groups = {
            name: GroupAccuracy(group["accuracy"], (group["interval"][0], group["interval"][1]), group["pairs"])
            for name, group in content.get("accuracy_by_agreement", {}).items()
        }
        changed = {"curve": curve, "accuracy_interval": (low, high), "accuracy_by_agreement": groups}
        known = {item.name for item in fields(cls)}  # older versions wrote more
        return cls(**{name: value for name, value in {**content, **changed}.items() if name in known})

    def save(self, folder: Path) -> None:
        """Write `report.json` and `curves.png`."""
        steps = [point.step for point in self.curve]
        losses: dict[str, list[float | None]] = {
            "training": [point.train_loss for point in self.curve],
            "validation": [point.validation_loss for point in self.curve],
        }
        panels = [
            Panel("loss, nats per pair", steps, losses),
            Panel("held-out accuracy", steps, {"selection": [point.accuracy for point in self.curve]}),
        ]
        draw_curves(folder / "curves.png", "Reward model", panels)
        write_atomically(folder / "report.json", json.dumps(asdict(self), indent=2) + "\n")
