"""From a rollout's rewards to a better policy: what each algorithm learns from it, and epochs of clipped updates.

Legend: B answers, T tokens of the longest answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from training.config import PPOConfig
from training.errors import DivergedError
from training.fast import autocast, length_groups
from training.models import PolicyWithValue
from training.objectives import (
    advantages_over_baseline,
    clipped_policy_loss,
    clipped_value_loss,
    generalized_advantages,
    kl_k1,
    kl_pull,
    rewards_with_kl,
    rloo_advantages,
    whiten,
)
from training.sampling import Rollout, answer_hidden, spread_out

_WORTH_A_PASS = 96
"""Tokens of padding that cost as much as another pass of a chat model's trained layers, forwards and backwards."""


@dataclass(frozen=True, slots=True)
class Targets:
    """What the policy and the value head learn from a rollout.

    advantages: (B, T), how much better than expected each token turned out.
    returns: (B, T), targets of the values.
    value_mask: (B, T) bool, where the value head is trained.
    learned: (M,) long, the answers that are learned from; None for all.
    kl_weight: how much the pull towards the reference counts beside the advantages; 0 where the KL is in the rewards.
    """

    advantages: Tensor
    returns: Tensor
    value_mask: Tensor
    learned: Tensor | None = None
    kl_weight: float = 0.0

    def rows(self, index: Tensor, length: int) -> Self:
        """The answers `index` (M,) long, cut to `length` tokens."""
        return type(self)(
            self.advantages[index, :length],
            self.returns[index, :length],
            self.value_mask[index, :length],
            kl_weight=self.kl_weight,
        )


@dataclass(frozen=True, slots=True)
class UpdateStats:
    """Means over the minibatches of one iteration, except for the three with a comment."""

    policy_loss: float
    value_loss: float
    clip_share: float
    first_ratio_gap: float  # largest |ratio - 1| in the first minibatch
    ratio_min: float  # of new to old probability of a token, over all minibatches
    ratio_max: float
    gradient_norm: float


def targets_of(rollout: Rollout, rewards: Tensor, config: PPOConfig, kl_coefficient: float) -> Targets:
    """Advantages and returns of a rollout.

    - `ppo`: generalised advantages over token rewards, with the value function as a critic of every state.
    - `rloo`: the sequence's reward minus the mean of the other answers to the same prompt; no value function. With a
      critic, whose values the rollout holds, generalised advantages likewise, and the KL in the loss itself.
    - `reinforce`: the sequence's reward minus b(x), the value of the prompt alone.
    - `best-of-n`: 1 for the best of the answers to a prompt and nothing for the others, which is maximum likelihood of
      the best one, and clipped like the rest.

    Args:
        rollout: B answers, those to the same prompt adjacent.
        rewards: (B,), of whole answers without the KL penalty.
        config: hyperparameters.
        kl_coefficient: beta.
    """
    mask, kl_weight = rollout.answer_mask, 0.0
    if config.values_every_token:
        if config.algorithm == "rloo":
            kl_coefficient, kl_weight = 0.0, kl_coefficient
        token_rewards = rewards_with_kl(rewards, rollout.logprobs, rollout.reference_logprobs, mask, kl_coefficient)
        advantages, returns = generalized_advantages(
            token_rewards, rollout.values, mask, gamma=config.gamma, lam=config.lam
        )
        value_mask = mask if config.algorithm == "ppo" else torch.zeros_like(mask)
    else:
        totals = rewards - kl_coefficient * kl_k1(rollout.logprobs, rollout.reference_logprobs, mask)
        if config.algorithm == "best-of-n":
            return _imitation_of_the_best(totals, mask, config.answers)
        if config.algorithm == "rloo":
            of_answers = rloo_advantages(totals.view(-1, config.answers)).flatten()
            value_mask = torch.zeros_like(mask)
        else:
            of_answers = advantages_over_baseline(totals, rollout.values[:, 0])
            value_mask = torch.zeros_like(mask)
            value_mask[:, 0] = True
        advantages = torch.where(mask, of_answers[:, None], 0.0)
        returns = torch.where(value_mask, totals[:, None], 0.0)
    if config.whiten_advantages:
        # Both baselines already centre by prompt; centring again over tokens would favour short answers or long ones.
        before = float(advantages.abs().sum())
        advantages = whiten(advantages, mask, center=config.algorithm == "ppo")
        kl_weight *= float(advantages.abs().sum()) / before if before else 1.0
    return Targets(advantages, returns, value_mask, kl_weight=kl_weight)


def _imitation_of_the_best(totals: Tensor, mask: Tensor, answers: int) -> Targets:
    """Targets for likelihood of the best answer to each prompt, by penalised rewards (B,); mask (B, T).

    Reference: Dong et al. 2023 (2304.06767); Sessa et al. 2024 (2407.14622).
    """
    by_prompt = totals.view(-1, answers)
    best = by_prompt.argmax(dim=1) + answers * torch.arange(len(by_prompt), device=totals.device)
    nothing = torch.zeros(mask.shape, device=totals.device)
    return Targets(mask.float(), nothing, torch.zeros_like(mask), best)


def update(
    policy: PolicyWithValue,
    optimizer: torch.optim.Optimizer,
    rollout: Rollout,
    targets: Targets,
    config: PPOConfig,
    seed: int,
) -> UpdateStats:
    """Run several epochs of clipped updates on one rollout.

    Raises:
        DivergedError: a loss or a gradient is NaN or infinite.
    """
    generator = torch.Generator().manual_seed(seed)
    stats: list[tuple[Tensor, ...]] = []
    rows = torch.arange(len(rollout)) if targets.learned is None else targets.learned.cpu()
    for _ in range(config.epochs):
        order = rows[torch.randperm(len(rows), generator=generator)].to(rollout.mask.device)
        for index in torch.split(order, config.minibatch_size):
            optimizer.zero_grad(set_to_none=True)
            loss, measured = accumulate_gradients(policy, rollout, targets, index, config)
            norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), config.max_grad_norm)
            if not bool(torch.isfinite(loss + norm)):
                raise DivergedError("the loss or its gradient is NaN or infinite", got=float(loss))
            optimizer.step()
            stats.append((*measured, norm))
    policy.settle()
    columns = [torch.stack(column) for column in zip(*stats, strict=True)]
    policy_loss, value_loss, clip_share, gap, smallest, largest, norm = columns
    return UpdateStats(
        policy_loss=float(policy_loss.mean()),
        value_loss=float(value_loss.mean()),
        clip_share=float(clip_share.mean()),
        first_ratio_gap=float(gap[0]),
        ratio_min=float(smallest.min()),
        ratio_max=float(largest.max()),
        gradient_norm=float(norm.mean()),
    )


def accumulate_gradients(
    policy: PolicyWithValue, rollout: Rollout, targets: Targets, index: Tensor, config: PPOConfig
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Add a minibatch's gradients to the policy's parameters, a few answers at a time.

    A loss is a mean over real tokens, so each micro-batch counts by its share of them, and the gradients are those of
    the whole minibatch.

    Args:
        policy: being trained.
        rollout: B answers.
        targets: of the same answers.
        index: (M,) long, the minibatch's answers.
        config: hyperparameters.

    Returns:
        The loss; and policy loss, value loss, clip share, largest |ratio - 1|, smallest and largest ratio.
    """
    tokens, learned = rollout.answer_mask[index].sum(), targets.value_mask[index].sum().clamp(min=1)
    losses, measured = [], []
    for rows in _micro_batches(rollout, index, config):
        part = rollout.rows(rows)
        aims = targets.rows(rows, part.tokens.shape[1])
        shares = part.answer_mask.sum() / tokens, aims.value_mask.sum() / learned
        with autocast(policy.base.device, config.precision, policy.base.hidden_size):
            loss, found = _loss(policy, part, aims, config, shares)
        loss.backward()  # type: ignore[no-untyped-call]
        losses.append(loss.detach())
        measured.append(found)
    policy_loss, value_loss, clip_share, gap, smallest, largest = (
        torch.stack(column) for column in zip(*measured, strict=True)
    )
    sums = policy_loss.sum(), value_loss.sum(), clip_share.sum()
    return torch.stack(losses).sum(), (*sums, gap.max(), smallest.min(), largest.max())


def _micro_batches(rollout: Rollout, index: Tensor, config: PPOConfig) -> list[Tensor]:
    """The answers at `index` (M,) in parts that pass through the policy together; on a CPU, those of like length."""
    parts = torch.split(index, config.micro_batch_size or len(index))
    if index.device.type != "cpu":
        return list(parts)
    return [
        part[group] for part in parts for group in length_groups(rollout.mask[part].sum(dim=1).tolist(), _WORTH_A_PASS)
    ]


def _loss(
    policy: PolicyWithValue, part: Rollout, targets: Targets, config: PPOConfig, shares: tuple[Tensor, Tensor]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """A micro-batch's part of the loss, of policy loss, value loss and clip share, and its ratios' extremes.

    `shares` of its minibatch's answer tokens, and of the tokens at which values are learned.
    """
    mask = part.answer_mask
    hidden = answer_hidden(policy(part.trunk, policy.base.context(part.mask)), part.starts, mask)
    flat = policy.head.logprobs(hidden, part.tokens[mask], config.sampling.temperature)
    logprobs = spread_out(flat, mask)
    policy_loss, clip_share = clipped_policy_loss(logprobs, part.logprobs, targets.advantages, mask, config.clip_ratio)
    if targets.kl_weight:
        policy_loss = policy_loss + targets.kl_weight * kl_pull(logprobs, part.reference_logprobs, mask)
    values = spread_out(policy.values(hidden), mask)
    value_loss, _ = clipped_value_loss(values, part.values, targets.returns, targets.value_mask, config.clip_value)
    policy_loss, value_loss = shares[0] * policy_loss, shares[1] * value_loss
    with torch.no_grad():
        ratios = (logprobs - part.logprobs).exp()[mask]
        extremes = (ratios - 1).abs().max(), ratios.min(), ratios.max()
        measured = policy_loss.detach(), value_loss.detach(), shares[0] * clip_share, *extremes
    return policy_loss + config.value_coefficient * value_loss, measured
