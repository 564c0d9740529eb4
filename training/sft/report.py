"""The results of supervised training, as numbers and plots."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from training.atomic import write_atomically
from training.runs import Panel, draw_curves


@dataclass(frozen=True, slots=True)
class SFTPoint:
    """Losses in nats per token: on the batches since the last point, and on the selection split (None if empty)."""

    step: int
    train_loss: float
    validation_loss: float | None


@dataclass(frozen=True, slots=True)
class SFTReport:
    """The results of supervised training.

    n: demonstrations per split.
    best_step: the step whose weights were kept, the one with the lowest validation loss.
    train_loss, validation_loss: in nats per token, at that step.
    truncated_prompts, truncated_answers: how many texts were too long and lost their beginning, or their end.
    """

    n: dict[str, int]
    best_step: int
    train_loss: float
    validation_loss: float | None
    trained_parameters: int
    curve: tuple[SFTPoint, ...]
    truncated_prompts: int = 0
    truncated_answers: int = 0

    def save(self, folder: Path) -> None:
        """Write `report.json` and `curves.png`."""
        lines: Mapping[str, Sequence[float | None]] = {
            "training": [point.train_loss for point in self.curve],
            "validation": [point.validation_loss for point in self.curve],
        }
        panel = Panel("loss, nats per token", [point.step for point in self.curve], lines)
        draw_curves(folder / "curves.png", "Supervised training", [panel])
        write_atomically(folder / "report.json", json.dumps(asdict(self), indent=2) + "\n")
