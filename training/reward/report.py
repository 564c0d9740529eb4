"""The results of reward-model training, as numbers and plots."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from training.atomic import write_atomically
from training.data import Split
from training.evaluation import Accuracy, accuracy_with_interval
from training.runs import Panel, draw_curves

HELD_OUT = (Split.SELECTION, Split.TEST)


@dataclass(frozen=True, slots=True)
class RewardPoint:
    """One epoch: losses in nats per pair, accuracy on held-out pairs (None where none has a winner)."""

    step: int
    train_loss: float
    validation_loss: float | None
    accuracy: float | None


@dataclass(frozen=True, slots=True)
class RewardReport:
    """How good the reward model is, on pairs it didn't learn from.

    out_of_fold: accuracy on all pairs outside the test part, each scored by a model that never saw its prompt.
    accuracy: the same for the train and the selection part alone; on the test part, that of the model that is saved.
        None where a part has no pair with a winner.
    accuracy_interval: its 95% interval on the test part.
    n, ties: pairs per split, and how many of them are ties.
    curve: training of the top layers; the first point, at step 0, is the probe.
    best_epoch: the epochs that the top layers were trained for, 0 for the probe alone.
    temperature: score differences divided by it are calibrated log-odds.
    calibration_error: expected calibration error out of fold.
    length_correlation: Pearson's correlation of score and answer length in tokens, over answers set aside.
    accuracy_by_agreement: out of fold, on pairs that one person judged, that several judged alike (`unanimous`), and
        that people were `split` over.
    disagreement: mean standard error of score differences on pairs ranked right, and wrong, out of fold. Unless the
        second is larger, the uncertainty is uninformative.
    truncated_prompts, truncated_answers: how many texts were too long and lost their beginning, or their end.
    probe_out_of_fold: accuracy of the probe alone.
    held_out_by: `prompt`, or `pair` where there were too few prompts.
    folds: how many parts the pairs were dealt to, and models the ensemble has.
    reads: depth and pool of the activations that the probe reads.
    deviations: the prior deviations of each model's probes; smaller is more regularised.
    loss_by_depth: the best probe's out-of-fold loss in nats by the depth it reads.
    tuned, tuning: whether top layers were kept, and why in words.
    prompts, annotators: how many taught or tested it.
    agreement: how often two people choose the same of two answers; it bounds the accuracy. None if no pair has two
        votes.
    rewrites: how many pairs are a rewritten answer and what it was written over.
    accuracy_by_selection: out of fold, by how pairs were chosen from several candidates; only those at random say how
        the model ranks any two of the policy's answers. Empty where none was chosen.
    left: the share of decided votes for the answer on the left, where the side is known; half, if sides don't matter.
    judge_pairs: how many pairs taught the judges of policies alone, and steered nothing; 0 where prompts were too few.

    Reports of earlier versions lack what follows `truncated_answers`; their accuracies are of one model, on pairs set
    aside, and on those it learned from.
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
    accuracy_by_agreement: dict[str, Accuracy] = field(default_factory=dict)
    disagreement: dict[str, float] | None = None
    truncated_prompts: int = 0
    truncated_answers: int = 0
    out_of_fold: Accuracy | None = None
    probe_out_of_fold: Accuracy | None = None
    held_out_by: str = "prompt"
    folds: int = 0
    reads: tuple[tuple[int, str], ...] = ()
    deviations: tuple[float, ...] = ()
    loss_by_depth: dict[str, float] = field(default_factory=dict)
    tuned: bool = True
    tuning: str = ""
    prompts: int = 0
    annotators: int = 0
    agreement: float | None = None
    rewrites: int = 0
    left: Accuracy | None = None
    judge_pairs: int = 0
    accuracy_by_selection: dict[str, Accuracy] = field(default_factory=dict)

    @property
    def winners(self) -> dict[str, int]:
        """Pairs with a winner, per split."""
        return {part: pairs - self.ties[part] for part, pairs in self.n.items()}

    def held_out(self) -> Accuracy:
        """The accuracy on pairs it didn't learn from: out of fold, or on the held-out parts in an older report."""
        if self.out_of_fold is not None:
            return self.out_of_fold
        counts = {split.value: self.winners[split.value] for split in HELD_OUT}
        right = sum((self.accuracy[part] or 0.0) * pairs for part, pairs in counts.items())
        pairs = sum(counts.values())
        return Accuracy(*accuracy_with_interval(right, pairs), pairs)

    def in_words(self) -> list[str]:
        """What was found, in sentences."""
        found, sentences = self.held_out(), []
        depths = sorted({depth for depth, _ in self.reads})
        if depths:
            layers = f"layer {depths[0]}" if len(depths) == 1 else f"layers {', '.join(map(str, depths))}"
            sentences.append(f"A probe reads the base's {layers}. {self.tuning}")
        if found.accuracy is None:
            sentences.append("No pair with a winner was held out, so the accuracy is unknown.")
        else:
            low, high = found.interval
            by = "" if self.held_out_by == "prompt" else " Too few prompts: their pairs were held out one by one."
            sentences.append(
                f"Accuracy on {found.pairs} pairs that it didn't learn from: {found.accuracy:.0%} "
                f"(95% interval {low:.0%} to {high:.0%}).{by}"
            )
        if self.agreement is not None:
            sentences.append(f"Two people choose the same answer on {self.agreement:.0%} of pairs.")
        if (test := self.accuracy["test"]) is not None:
            low, high = self.accuracy_interval
            sentences.append(f"On {self.winners['test']} test pairs: {test:.0%} ({low:.0%} to {high:.0%}).")
        groups = {name: group for name, group in self.accuracy_by_agreement.items() if group.accuracy is not None}
        if groups.keys() - {"one vote"}:
            parts = (f"{name} {group.accuracy:.0%} of {group.pairs}" for name, group in groups.items())
            sentences.append(f"By annotators' agreement: {', '.join(parts)}.")
        sentences += self._warnings()
        return sentences

    def _warnings(self) -> list[str]:
        """What a reader has to know to read the figures right."""
        found = []
        if self.left is not None and self.left.accuracy is not None and not self.left.holds(0.5):
            low, high = self.left.interval
            found.append(
                f"The answer on the left won {self.left.accuracy:.0%} of {self.left.pairs} decided votes "
                f"({low:.0%} to {high:.0%}): people favour a side. Sides are drawn by lot, so it is noise, not a bias."
            )
        drawn = self.accuracy_by_selection.get("random")
        if drawn is not None and drawn.accuracy is not None:
            low, high = drawn.interval
            found.append(
                f"Of the {drawn.pairs} pairs drawn at random, which stand for any two of the policy's answers, "
                f"{drawn.accuracy:.0%} ({low:.0%} to {high:.0%}) are ranked correctly."
            )
        if self.rewrites:
            found.append(f"{self.rewrites} of the pairs are rewrites, which nobody compared.")
        if self.folds and not self.judge_pairs:
            found.append(
                "There are too few prompts to set pairs apart: the judge of policies learned from pairs that steer "
                "their training too, so what it says of them may be too good."
            )
        return found

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> RewardReport:
        """The report in a `report.json`."""
        low, high = content["accuracy_interval"]
        changed = {
            "curve": tuple(RewardPoint(**point) for point in content["curve"]),
            "accuracy_interval": (low, high),
            "accuracy_by_agreement": {
                name: _accuracy(group) for name, group in content.get("accuracy_by_agreement", {}).items()
            },
            "out_of_fold": _accuracy(content.get("out_of_fold")),
            "probe_out_of_fold": _accuracy(content.get("probe_out_of_fold")),
            "left": _accuracy(content.get("left")),
            "accuracy_by_selection": {
                name: _accuracy(group) for name, group in content.get("accuracy_by_selection", {}).items()
            },
            "reads": tuple((depth, pool) for depth, pool in content.get("reads", ())),
            "deviations": tuple(content.get("deviations", ())),
        }
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
            Panel("held-out accuracy", steps, {"out of fold": [point.accuracy for point in self.curve]}),
        ]
        if self.loss_by_depth:
            depths = [int(depth) for depth in self.loss_by_depth]
            panels.append(Panel("probe's held-out loss by layer", depths, {"probe": [*self.loss_by_depth.values()]}))
        draw_curves(folder / "curves.png", "Reward model", panels)
        write_atomically(folder / "report.json", json.dumps(asdict(self), indent=2) + "\n")


def _accuracy(content: dict[str, Any] | None) -> Accuracy | None:
    return None if content is None else Accuracy(**{**content, "interval": tuple(content["interval"])})
