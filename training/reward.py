"""Train the reward model on preference pairs: Bradley-Terry over frozen activations that are computed once.

Reference: Ziegler et al. 2019 (1909.08593), equation 1; Stiennon et al. 2020 (2009.01325), section 3.4.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training.checkpoints import Checkpoints, run_digest
from training.config import RewardConfig, TextConfig
from training.errors import DataError, DivergedError
from training.fused_gelu import fuse_gelu
from training.objectives import bradley_terry_loss
from training.precision import compute_dtype
from training.preferences import dataset_digest
from training.reward_data import PairFeatures, features_by_split
from training.reward_measures import count_right, measure
from training.reward_model import RewardModel
from training.reward_report import RewardPoint, RewardReport
from training.schedule import warmup_then_cosine
from training.text import TextCodec
from training.types import Preference, Split

OnPoint = Callable[[RewardPoint, int], None]
"""Called after every epoch with the new point of the curve and the number of steps the whole run may take."""


@dataclass(slots=True)
class _Run:
    """What changes while training; all of it goes into a checkpoint."""

    model: RewardModel
    optimizer: torch.optim.Optimizer
    curve: list[RewardPoint] = field(default_factory=list)
    best_epoch: int = 0
    best_loss: float = math.inf
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    def state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "curve": [point.as_json() for point in self.curve],
            "best_epoch": self.best_epoch,
            "best_loss": self.best_loss,
            "best_weights": self.best_weights,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.curve = [RewardPoint(**point) for point in state["curve"]]
        self.best_epoch, self.best_loss = state["best_epoch"], state["best_loss"]
        self.best_weights = state["best_weights"]


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
    """Train a reward model and leave it in `out` with `report.json`; go on from a checkpoint found there.

    The epoch with the lowest validation loss wins; training ends early when it hasn't fallen for
    `config.patience_epochs` epochs. Without selection pairs the last epoch is taken. Every random choice comes from
    (seed, epoch), so a resumed run equals an uninterrupted one.

    Args:
        base: the base model (a transformers PreTrainedModel); it is frozen.
        codec: the base's tokenizer and template.
        preferences: all pairs; their prompts decide which part they belong to.
        config: hyperparameters.
        out: where model, report and checkpoints go.
        min_preferences: fewer pairs with a winner than this are refused.
        on_point: called after every epoch.

    Raises:
        DataError: there is too little to learn from.
        CheckpointError: `out` holds another run.
        DivergedError: the loss is no number any more.
    """
    check_preferences(preferences, min_preferences)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        model = RewardModel.on_base(base, config.frozen_share, config.heads)
    if compute_dtype(model.base.device, config.precision, model.base.hidden_size) == torch.bfloat16:
        fuse_gelu(base)
        fuse_gelu(model)
    features = features_by_split(
        model, codec, preferences, precision=config.precision, memory_mb=config.activation_memory_mb, folder=out
    )
    train, selection = features[Split.TRAIN], features[Split.SELECTION]
    if not bool((train.p_chosen != 0.5).any()):
        raise DataError(
            "no pair to train on has a winner",
            got=f"{len(train)} training pairs, all ties",
            remedy="Judge more prompts.",
        )
    run = _Run(model, _optimizer(model, config))
    digest = _digest(model, codec.config, preferences, config)
    checkpoints = Checkpoints(out / "checkpoints", digest)
    if found := checkpoints.latest():
        run.restore(found[1])
    total_steps = config.epochs * _steps_per_epoch(train, config)
    while len(run.curve) < config.epochs and len(run.curve) - run.best_epoch < config.patience_epochs:
        epoch = len(run.curve)
        train_loss = _train_epoch(run, train, config, epoch, total_steps)
        _record(run, selection, train_loss, step=(epoch + 1) * _steps_per_epoch(train, config))
        checkpoints.save(epoch + 1, run.state())
        if on_point:
            on_point(run.curve[-1], total_steps)
    model.load_state_dict(run.best_weights)
    report = measure(model, codec, preferences, features, run.curve, run.best_epoch)
    model.save(out)
    report.save(out)
    return report


def check_preferences(preferences: Sequence[Preference], min_preferences: int) -> None:
    """Refuse what can't teach anything.

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


def _learning_rates(config: RewardConfig) -> tuple[float, float]:
    """Of the layers, and of the head."""
    return config.learning_rate, config.head_learning_rate


def _optimizer(model: RewardModel, config: RewardConfig) -> torch.optim.Optimizer:
    parts = zip((model.top, model.head), _learning_rates(config), strict=True)
    groups = [{"params": list(part.parameters()), "lr": rate} for part, rate in parts]
    return torch.optim.AdamW(groups, weight_decay=config.weight_decay, fused=True)


def _digest(model: RewardModel, text: TextConfig, preferences: Sequence[Preference], config: RewardConfig) -> str:
    parts = model.base.trunk_digest(model.base.n_layers), dataset_digest(preferences)
    return run_digest("reward", *parts, text.model_dump_json(), config.model_dump_json())


def _steps_per_epoch(train: PairFeatures, config: RewardConfig) -> int:
    return math.ceil(len(train) / config.batch_pairs)


def _train_epoch(run: _Run, train: PairFeatures, config: RewardConfig, epoch: int, total_steps: int) -> float:
    """One pass over the training pairs; returns the mean loss of a pair."""
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + epoch)
    order = torch.randperm(len(train), generator=generator).tolist()
    step = epoch * _steps_per_epoch(train, config)
    loss_sum = 0.0
    weights = resampling_weights(len(train), config.heads, config.seed)
    for start in range(0, len(order), config.batch_pairs):
        rows = order[start : start + config.batch_pairs]
        factor = warmup_then_cosine(step, total_steps, config.warmup_share)
        for group, rate in zip(run.optimizer.param_groups, _learning_rates(config), strict=True):
            group["lr"] = rate * factor
        chosen, rejected = train.head_scores(run.model, rows)
        p_chosen = train.p_chosen[rows, None].to(chosen.device)
        counted = None if weights is None else weights[rows].to(chosen.device)
        loss = bradley_terry_loss(chosen, rejected, p_chosen, label_smoothing=config.label_smoothing, weights=counted)
        run.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(run.model.parameters(), config.max_grad_norm)
        _check_finite(loss.detach() + norm, step, config)
        run.optimizer.step()
        loss_sum += float(loss.detach()) * len(rows)
        step += 1
    return loss_sum / len(order)


def resampling_weights(pairs: int, heads: int, seed: int) -> Tensor | None:
    """How often each head counts each pair (pairs, heads): Poisson with mean 1, which is drawing pairs anew for each.

    None for a single head, which counts every pair once.

    Reference: Osband et al. 2016 (1602.04621); Oza & Russell 2001, "Online Bagging and Boosting".
    """
    if heads == 1:
        return None
    generator = torch.Generator().manual_seed(seed * 1_000_003 - 1)
    return torch.poisson(torch.ones(pairs, heads), generator=generator)


def _check_finite(value: Tensor, step: int, config: RewardConfig) -> None:
    """Refuse to take a step along a gradient that is no number."""
    if not bool(torch.isfinite(value)):
        raise DivergedError(
            "training the reward model ran away",
            got=f"a loss or a gradient that is no number at step {step + 1}",
            remedy="The last good checkpoint is kept. "
            f"Lower reward.learning_rate ({config.learning_rate}) or reward.head_learning_rate.",
        )


def _record(run: _Run, selection: PairFeatures, train_loss: float, step: int) -> None:
    """Add a point to the curve and keep the weights when they are the best so far."""
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
