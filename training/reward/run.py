"""The state of one run that trains the top layers, and one pass over its pairs.

Reference: Ziegler et al. 2019 (1909.08593), equation 1; Stiennon et al. 2020 (2009.01325), section 3.4.

Legend: N pairs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor

from training.config import RewardConfig
from training.errors import DivergedError
from training.fast import compute_dtype, fuse_gelu, pack_frozen
from training.models import RewardModel, frozen_copies
from training.preference_losses import bradley_terry_loss
from training.reward.features import PairFeatures
from training.runs import warmup_then_cosine


@dataclass(slots=True)
class RewardRun:
    """What changes during training; all of it goes into a checkpoint.

    train_losses: of each epoch so far, in nats per pair.
    held_out: for each epoch, the score differences (n,) of the layers on the pairs that it doesn't train on.
    """

    model: RewardModel
    optimizer: torch.optim.Optimizer
    train_losses: list[float] = field(default_factory=list)
    held_out: list[Tensor] = field(default_factory=list)

    @classmethod
    def fresh(cls, base: Any, config: RewardConfig) -> Self:
        """A new run, on a copy of the base (a transformers PreTrainedModel) that shares its weights."""
        (base,) = frozen_copies(base)
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            model = RewardModel.on_base(base, config.frozen_share)
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
            "train_losses": self.train_losses,
            "held_out": self.held_out,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a checkpoint."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.train_losses, self.held_out = state["train_losses"], state["held_out"]


def train_epoch(
    run: RewardRun, pairs: PairFeatures, rows: Tensor, config: RewardConfig, epoch: int, offsets: Tensor | None = None
) -> float:
    """Pass number `epoch` over the pairs at `rows` (n,); returns the mean loss per pair.

    Args:
        run: what is trained.
        pairs: with trunk activations.
        rows: which of them are trained on.
        config: hyperparameters.
        epoch: its number, from 0.
        offsets: (N,) score differences that the layers' are added to, None for none.

    Raises:
        DivergedError: the loss or its gradient is NaN or infinite.
    """
    batches = batches_of(pairs.places, rows, config.batch_pairs, seed=config.seed * 1_000_003 + epoch)
    steps = math.ceil(len(rows) / config.batch_pairs)
    loss_sum = 0.0
    weights = pairs.votes / pairs.votes[rows].mean()
    offsets = torch.zeros(len(pairs)) if offsets is None else offsets.float()
    for place, batch in enumerate(batches):
        step = epoch * steps + place * steps / len(batches)
        factor = warmup_then_cosine(step, config.epochs * steps, config.warmup_share)
        for group, rate in zip(run.optimizer.param_groups, _learning_rates(config), strict=True):
            group["lr"] = rate * factor
        chosen, rejected = pairs.top_scores(run.model, batch.tolist())
        given, p_chosen, counted = (column[batch].to(chosen.device) for column in (offsets, pairs.p_chosen, weights))
        loss = bradley_terry_loss(
            chosen + given, rejected, p_chosen, label_smoothing=config.label_smoothing, weights=counted
        )
        run.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(run.model.parameters(), config.max_grad_norm)
        _check_finite(loss.detach() + norm, int(step), config)
        run.optimizer.step()
        loss_sum += float(loss.detach()) * len(batch)
    return loss_sum / len(rows)


def batches_of(places: Tensor, rows: Tensor, batch_pairs: int, *, seed: int) -> list[Tensor]:
    """Deal pairs to batches of about `batch_pairs`, in a random order. Pairs that share an answer stay together.

    The pairs of one ranking share its answers, and say nearly the same: spread over an epoch, each answer would be
    learned from many times over, and overfitted.

    Args:
        places: (N, 2) long, the two answers of each pair.
        rows: (n,) long, the pairs to deal.
        batch_pairs: what a batch holds; more that belong together are divided all the same.
        seed: of the order.

    Returns:
        Parts of `rows`, each at most `batch_pairs` long.

    Reference: Ouyang et al. 2022 (2203.02155), section 3.5.
    """
    together = [part for group in _sharing(places[rows]) for part in torch.split(rows[group], batch_pairs)]
    order = torch.randperm(len(together), generator=torch.Generator().manual_seed(seed)).tolist()
    batches: list[list[Tensor]] = [[]]
    filled = 0
    for number in order:
        if filled + len(together[number]) > batch_pairs:
            batches.append([])
            filled = 0
        batches[-1].append(together[number])
        filled += len(together[number])
    return [torch.cat(batch) for batch in batches if batch]


def _sharing(places: Tensor) -> list[list[int]]:
    """The pairs (n, 2) in groups that are linked by common answers, in the order of their first pairs."""
    group_of: dict[int, list[int]] = {}
    pairs = places.tolist()
    for pair, answers in enumerate(pairs):
        known = {id(group_of[answer]): group_of[answer] for answer in answers if answer in group_of}
        merged = sorted([pair, *(each for group in known.values() for each in group)])
        for other in merged:
            group_of |= dict.fromkeys(pairs[other], merged)
    groups = {id(group): group for group in group_of.values()}
    return sorted(groups.values())


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
