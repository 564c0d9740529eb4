"""The state of one reward-model run and one pass over its pairs.

Reference: Ziegler et al. 2019 (1909.08593), equation 1; Stiennon et al. 2020 (2009.01325), section 3.4.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import torch
from torch import Tensor

from training.config import RewardConfig
from training.errors import DivergedError
from training.fast import compute_dtype, fuse_gelu, pack_frozen
from training.models import RewardModel, frozen_copies
from training.objectives import bradley_terry_loss
from training.reward.features import PairFeatures
from training.reward.report import RewardPoint
from training.runs import warmup_then_cosine


@dataclass(slots=True)
class RewardRun:
    """What changes during training; all of it goes into a checkpoint."""

    model: RewardModel
    optimizer: torch.optim.Optimizer
    curve: list[RewardPoint] = field(default_factory=list)
    best_epoch: int = 0
    best_loss: float = math.inf
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def fresh(cls, base: Any, config: RewardConfig) -> Self:
        """A new run, on a copy of the base (a transformers PreTrainedModel) that shares its weights."""
        (base,) = frozen_copies(base)
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            model = RewardModel.on_base(base, config.frozen_share, config.heads)
        if compute_dtype(model.base.device, config.precision, model.base.hidden_size) == torch.bfloat16:
            fuse_gelu(base)
            fuse_gelu(model)
            pack_frozen(model.base.blocks)
        parts = zip((model.top, model.head), _learning_rates(config), strict=True)
        groups = [{"params": list(part.parameters()), "lr": rate} for part, rate in parts]
        return cls(model, torch.optim.AdamW(groups, weight_decay=config.weight_decay, fused=True))

    def state(self) -> dict[str, Any]:
        """The content of a checkpoint."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "curve": [asdict(point) for point in self.curve],
            "best_epoch": self.best_epoch,
            "best_loss": self.best_loss,
            "best_weights": self.best_weights,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a checkpoint."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.curve = [RewardPoint(**point) for point in state["curve"]]
        self.best_epoch, self.best_loss = state["best_epoch"], state["best_loss"]
        self.best_weights = state["best_weights"]


def steps_per_epoch(train: PairFeatures, config: RewardConfig) -> int:
    """How many optimizer steps one pass over the training pairs takes."""
    return math.ceil(len(train) / config.batch_pairs)


def train_epoch(run: RewardRun, train: PairFeatures, config: RewardConfig, epoch: int) -> float:
    """Pass number `epoch` over the training pairs; returns the mean loss per pair.

    Raises:
        DivergedError: the loss or its gradient is NaN or infinite.
    """
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + epoch)
    order = torch.randperm(len(train), generator=generator).tolist()
    step = epoch * steps_per_epoch(train, config)
    total_steps = config.epochs * steps_per_epoch(train, config)
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
    """How often each head counts each pair (pairs, heads): Poisson with mean 1, an online bootstrap for each head.

    None for a single head, which counts every pair once.

    Reference: Osband et al. 2016 (1602.04621); Oza & Russell 2001, "Online Bagging and Boosting".
    """
    if heads == 1:
        return None
    generator = torch.Generator().manual_seed(seed * 1_000_003 - 1)
    return torch.poisson(torch.ones(pairs, heads), generator=generator)


def _check_finite(value: Tensor, step: int, config: RewardConfig) -> None:
    """Refuse to take a step along a gradient that is NaN or infinite."""
    if not bool(torch.isfinite(value)):
        raise DivergedError(
            "reward-model training diverged",
            got=f"a NaN or infinite loss or gradient at step {step + 1}",
            remedy="The last good checkpoint is kept. "
            f"Lower reward.learning_rate ({config.learning_rate}) or reward.head_learning_rate.",
        )


def _learning_rates(config: RewardConfig) -> tuple[float, float]:
    """The learning rates of the layers and of the head."""
    return config.learning_rate, config.head_learning_rate
