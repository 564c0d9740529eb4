"""Trains the top layers on what the probe leaves unexplained, and keeps them only where they are better.

The layers' scores are added to half the probe's, and start at zero, so training starts from the probe's ranking. What
the probe says of a training pair comes from a probe that never saw it: one that has would explain nearly everything,
and leave nothing to learn. For the same reason only half of it counts: from all of it, layers that would have ranked
better than the probe learn little. Cross-validation decides for how long to train, and whether it was worth it.

Legend: N pairs, E epochs.

Reference: Kumar et al. 2022 (2202.10054), linear probing then fine-tuning.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training.config import RewardConfig
from training.evaluation import fit_temperature
from training.reward.choose import FittedProbes
from training.reward.features import PairFeatures
from training.reward.folds import Folds
from training.reward.probe import pair_losses
from training.reward.report import RewardPoint
from training.reward.run import RewardRun, train_epoch
from training.runs import Checkpoints, run_digest

_ENOUGH_PAIRS = 500
"""Once this many pairs have been scored out of fold, further parts would hardly change the decision."""

PROBE_SHARE = 0.5
"""How much of the probe's scores the layers' are added to; the temperature makes up for the scale."""

OnPoint = Callable[[RewardPoint, int], None]
"""Called after every epoch with the new point of the curve and the maximum number of steps of the whole run."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """What training the top layers came to.

    kept: whether it is better than the probe alone.
    why: the same in words, with figures.
    curve: mean losses and accuracy over the parts, by epoch; the first point is the probe.
    epochs: for how long the final run trained.
    out_of_fold: (N,) float64 score differences with the layers', of the pairs in `measured`.
    measured: (N,) bool.
    run: the final run, on all pairs; None unless kept.
    """

    kept: bool
    why: str
    curve: tuple[RewardPoint, ...]
    epochs: int
    out_of_fold: Tensor
    measured: Tensor
    run: RewardRun | None


class Tuner:
    """Trains on one base and one set of pairs.

    Args:
        base: the base model (a transformers PreTrainedModel).
        pairs: with trunk activations.
        folds: the parts.
        probes: fitted on the same pairs.
        config: hyperparameters.
        out: where checkpoints go.
        digest: identifies the inputs.
        on_point: called after every epoch.
    """

    def __init__(
        self,
        base: Any,
        pairs: PairFeatures,
        folds: Folds,
        probes: FittedProbes,
        config: RewardConfig,
        out: Path,
        digest: str,
        on_point: OnPoint | None,
    ) -> None:
        self._base, self._pairs, self._folds, self._probes, self._config = base, pairs, folds, probes, config
        self._out, self._digest, self._on_point = out, digest, on_point
        tried, measured = 0, 0
        while tried < len(probes.members) and measured < _ENOUGH_PAIRS:
            measured += int((folds.parts == tried).sum())
            tried += 1
        self._tried = tried
        self._total = (tried + 1) * config.epochs * math.ceil(len(pairs) / config.batch_pairs)
        self._step = 0

    def tune(self, first: RewardPoint) -> Tuning:
        """Train on all but one part, for several parts; then on all pairs, if that was better than the probe.

        Pairs that are set apart for the judges teach no layers.

        Args:
            first: the probe's point of the curve.

        Raises:
            CheckpointError: the folder holds another run.
            DivergedError: the loss or its gradient is NaN or infinite.
        """
        parts, steering = self._folds.parts, self._probes.steering
        inside = [(parts == part).nonzero().flatten() for part in range(self._tried)]
        runs = []
        for part, rows in enumerate(inside):
            offsets = PROBE_SHARE * self._probes.inner[part]
            runs.append(self._train(f"fold-{part}", steering & (parts != part), rows, offsets, self._config.epochs))
        losses = torch.stack([self._losses_by_epoch(run, rows) for run, rows in zip(runs, inside, strict=True)])
        sizes = torch.tensor([len(rows) for rows in inside], dtype=torch.float64)
        scores = PROBE_SHARE * self._probes.out_of_fold
        for part, rows in enumerate(inside):
            # The epoch is chosen on the other parts, so that choosing it doesn't flatter this one.
            others = [other for other in range(self._tried) if other != part] or [part]
            epoch = _best_epoch(losses[others], sizes[others])
            epoch = min(epoch, len(runs[part].held_out))
            scores[rows] += runs[part].held_out[epoch - 1].double()
        measured = parts < self._tried
        better, why = self._compare(scores, measured)
        epochs = _best_epoch(losses, sizes)
        kept = better or self._config.tune == "always"
        run = None
        if kept:
            nothing = torch.zeros(0, dtype=torch.long)
            run = self._train("final", steering, nothing, PROBE_SHARE * self._probes.out_of_fold, epochs)
        return Tuning(kept, why, self._curve(first, runs, losses, inside), epochs, scores, measured, run)

    def _train(self, name: str, kept: Tensor, others: Tensor, offsets: Tensor, epochs: int) -> RewardRun:
        """Train on the pairs `kept` (N,) bool, scoring those at `others` after every epoch; stop when worse."""
        checkpoints = Checkpoints(self._out / "checkpoints" / name, run_digest(self._digest, name))
        run = RewardRun.fresh(self._base, self._config)
        if found := checkpoints.latest():
            run.restore(found[1])
        rows = kept.nonzero().flatten()
        while len(run.train_losses) < epochs and not self._worsens(run, others):
            epoch = len(run.train_losses)
            run.train_losses.append(train_epoch(run, self._pairs, rows, self._config, epoch, offsets))
            run.held_out.append(self._pairs.top_differences(run.model, others.tolist()))
            checkpoints.save(epoch + 1, run.state())
            self._step += math.ceil(len(rows) / self._config.batch_pairs)
            if self._on_point:
                self._on_point(self._point(run, epoch, others, self._step), max(self._total, self._step))
        return run

    def _worsens(self, run: RewardRun, rows: Tensor) -> bool:
        """Whether the loss on held-out pairs hasn't fallen for `patience_epochs` epochs."""
        if not len(rows) or not run.held_out:
            return False
        losses = self._losses_by_epoch(run, rows)[: len(run.held_out)]
        return len(losses) - 1 - int(losses.argmin()) >= self._config.patience_epochs

    def _losses_by_epoch(self, run: RewardRun, rows: Tensor) -> Tensor:
        """Mean held-out loss (E,) in nats after each epoch; infinite for those not reached."""
        offsets, weights = PROBE_SHARE * self._probes.out_of_fold[rows], self._pairs.votes[rows].double()
        losses = torch.full((self._config.epochs,), math.inf, dtype=torch.float64)
        for epoch, found in enumerate(run.held_out):
            each = pair_losses(offsets + found.double(), self._pairs.p_chosen[rows])
            losses[epoch] = (each * weights).sum() / weights.sum()
        return losses

    def _compare(self, scores: Tensor, measured: Tensor) -> tuple[bool, str]:
        """Whether the loss falls by more than its standard error over prompts, each side at its best temperature."""
        target, weights = self._pairs.p_chosen[measured], self._pairs.votes[measured].double()
        each = []
        for found in (self._probes.out_of_fold[measured], scores[measured]):
            each.append(pair_losses(found / fit_temperature(found, target), target) * weights / weights.mean())
        gain = each[0] - each[1]
        _, cluster = torch.unique(self._folds.groups[measured], return_inverse=True)
        prompts = int(cluster.max()) + 1
        sums = torch.zeros(prompts, dtype=torch.float64).index_add_(0, cluster, gain - gain.mean())
        error = float(sums.square().sum().sqrt()) / len(gain) * math.sqrt(prompts / max(1, prompts - 1))
        mean = float(gain.mean())
        figures = f"it changes the loss on {len(gain)} pairs it didn't learn from by {-mean:+.3f} nats (± {error:.3f})"
        return mean > error, figures

    def _point(self, run: RewardRun, epoch: int, rows: Tensor, step: int) -> RewardPoint:
        loss, accuracy = None, None
        if len(rows):
            scores = PROBE_SHARE * self._probes.out_of_fold[rows] + run.held_out[epoch].double()
            loss = float(self._losses_by_epoch(run, rows)[epoch])
            untied = self._pairs.p_chosen[rows] != 0.5
            accuracy = float((scores[untied] > 0).double().mean()) if bool(untied.any()) else None
        return RewardPoint(step, run.train_losses[epoch], loss, accuracy)

    def _curve(
        self, first: RewardPoint, runs: list[RewardRun], losses: Tensor, inside: list[Tensor]
    ) -> tuple[RewardPoint, ...]:
        """The mean over the parts after each epoch that all of them reached."""
        reached = min(len(run.held_out) for run in runs)
        steps = math.ceil(len(self._pairs) / self._config.batch_pairs)
        curve = [first]
        for epoch in range(reached):
            points = [self._point(run, epoch, rows, 0) for run, rows in zip(runs, inside, strict=True)]
            accuracies = [point.accuracy for point in points if point.accuracy is not None]
            curve.append(
                RewardPoint(
                    (epoch + 1) * steps,
                    sum(point.train_loss for point in points) / len(points),
                    float(losses[:, epoch].mean()),
                    sum(accuracies) / len(accuracies) if accuracies else None,
                )
            )
        return tuple(curve)


def _best_epoch(losses: Tensor, sizes: Tensor) -> int:
    """The epoch, from 1, with the lowest mean of losses (parts, E), each part counted by its size."""
    return int((losses * sizes[:, None]).sum(dim=0).argmin()) + 1
