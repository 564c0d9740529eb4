"""Train the reward model on preference pairs: Bradley-Terry over frozen activations that are computed once.

Reference: Ziegler et al. 2019 (1909.08593), equation 1; Stiennon et al. 2020 (2009.01325), section 3.4.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from training.config import RewardConfig, TextConfig
from training.data import Preference, Split, dataset_digest
from training.errors import DataError
from training.models import RewardModel, TextCodec
from training.objectives import bradley_terry_loss
from training.reward.features import PairFeatures, features_by_split
from training.reward.measures import count_right, measure
from training.reward.report import RewardPoint, RewardReport
from training.reward.run import RewardRun, steps_per_epoch, train_epoch
from training.runs import Checkpoints, run_digest

OnPoint = Callable[[RewardPoint, int], None]
"""Called after every epoch with the new point of the curve and the maximum number of steps of the whole run."""


def train_reward(
    base: Any,
    codec: TextCodec,
    preferences: Sequence[Preference],
    config: RewardConfig,
    out: Path,
    *,
    min_preferences: int = 20,
    on_point: OnPoint | None = None,
) -> RewardReport:
    """Train a reward model and save it in `out` with `report.json`; resume from a checkpoint found there.

    The epoch with the lowest validation loss is kept; training stops early when that loss hasn't fallen for
    `config.patience_epochs` epochs. Without selection pairs the last epoch is kept. Every random choice depends only on
    (seed, epoch), so a resumed run equals an uninterrupted one.

    Args:
        base: the base model (a transformers PreTrainedModel); it isn't changed.
        codec: the base's tokenizer and template.
        preferences: all pairs; their prompts decide which split they belong to.
        config: hyperparameters.
        out: where model, report and checkpoints go.
        min_preferences: the minimum number of pairs with a winner.
        on_point: called after every epoch.

    Raises:
        DataError: there is too little to learn from.
        CheckpointError: `out` holds another run.
        DivergedError: the loss or its gradient is NaN or infinite.
    """
    check_preferences(preferences, min_preferences)
    run = RewardRun.fresh(base, config)
    model = run.model
    features = features_by_split(
        model, codec, preferences, precision=config.precision, memory_mb=config.activation_memory_mb, folder=out
    )
    train, selection = features[Split.TRAIN], features[Split.SELECTION]
    if not bool((train.p_chosen != 0.5).any()):
        raise DataError(
            "no training pair has a winner",
            got=f"{len(train)} training pairs, all ties",
            remedy="Judge more prompts.",
        )
    digest = _digest(model, codec.config, preferences, config)
    checkpoints = Checkpoints(out / "checkpoints", digest)
    if found := checkpoints.latest():
        run.restore(found[1])
    total_steps = config.epochs * steps_per_epoch(train, config)
    while len(run.curve) < config.epochs and len(run.curve) - run.best_epoch < config.patience_epochs:
        epoch = len(run.curve)
        train_loss = train_epoch(run, train, config, epoch)
        _record(run, selection, train_loss, step=(epoch + 1) * steps_per_epoch(train, config))
        checkpoints.save(epoch + 1, run.state())
        if on_point:
            on_point(run.curve[-1], total_steps)
    model.load_state_dict(run.best_weights)
    report = measure(model, codec, preferences, features, run.curve, run.best_epoch)
    model.save(out)
    report.save(out)
    return report


def check_preferences(preferences: Sequence[Preference], min_preferences: int) -> None:
    """Refuse too small a set of preferences.

    Raises:
        DataError: there are fewer pairs with a winner than `min_preferences`.
    """
    untied = sum(not preference.is_tie for preference in preferences)
    if untied < max(1, min_preferences):
        raise DataError(
            "too few preferences to train a reward model",
            got=f"{untied} pairs with a winner and {len(preferences) - untied} ties",
            expected=f"at least {max(1, min_preferences)} with a winner",
            remedy="Judge more pairs, or lower gates.min_preferences.",
        )


def _digest(model: RewardModel, text: TextConfig, preferences: Sequence[Preference], config: RewardConfig) -> str:
    parts = model.base.trunk_digest(model.base.n_layers), dataset_digest(preferences)
    return run_digest("reward", *parts, text.model_dump_json(), config.model_dump_json())


def _record(run: RewardRun, selection: PairFeatures, train_loss: float, step: int) -> None:
    """Add a point to the curve and keep the weights if they are the best so far."""
    epoch = len(run.curve) + 1
    validation_loss, accuracy = None, None
    if len(selection):
        chosen, rejected = selection.all_scores(run.model)
        validation_loss = float(bradley_terry_loss(chosen, rejected, selection.p_chosen))
        right, untied = count_right(chosen - rejected, selection.p_chosen)
        accuracy = right / untied if untied else None
    run.curve.append(RewardPoint(step, train_loss, validation_loss, accuracy))
    if validation_loss is None or validation_loss < run.best_loss:
        run.best_epoch, run.best_loss = epoch, math.inf if validation_loss is None else validation_loss
        run.best_weights = copy.deepcopy(run.model.state_dict())
