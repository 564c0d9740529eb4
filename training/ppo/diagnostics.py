"""Metrics that show whether reinforcement learning is healthy.

Legend: B answers, T tokens of the longest answer, N real answer tokens.
"""

from __future__ import annotations

from dataclasses import asdict

import torch
from torch import Tensor

from training.config import PPOConfig
from training.objectives import kl_k1, kl_k3, masked_mean
from training.ppo.report import PPOPoint
from training.ppo.update import UpdateStats
from training.sampling import Rollout

_REPEATED_TOKENS = 4  # shorter n-grams recur in good text too


def distinct_share(tokens: Tensor, mask: Tensor, length: int) -> float:
    """Distinct n-grams of `length` tokens as a share of all n-grams in a batch, 0 where there are none.

    It falls as answers become alike. `tokens` and `mask` are (B, T), padded on the right.
    """
    if tokens.shape[1] < length:
        return 0.0
    stretches = tokens.unfold(1, length, 1)[mask[:, length - 1 :]]
    return len(torch.unique(stretches, dim=0)) / len(stretches) if len(stretches) else 0.0


def repetition(tokens: Tensor, mask: Tensor) -> float:
    """How much answers repeat themselves: the mean share of an answer's 4-grams that occurred in it before.

    0 is no repetition; an answer of one token over and over is near 1; one of fewer than 4 tokens counts as 0.
    `tokens` and `mask` are (B, T), padded on the right.
    """
    shares = []
    for row, real in zip(tokens.tolist(), mask.sum(dim=1).tolist(), strict=True):
        stretches = [tuple(row[at : at + _REPEATED_TOKENS]) for at in range(real - _REPEATED_TOKENS + 1)]
        shares.append(1 - len(set(stretches)) / len(stretches) if stretches else 0.0)
    return sum(shares) / len(shares) if shares else 0.0


def explained_variance(values: Tensor, returns: Tensor) -> float | None:
    """1 - Var(returns - values) / Var(returns), both (N,): 1 is perfect, 0 no better than a constant.

    None if the returns don't vary.
    """
    variance = float(returns.var(unbiased=False))
    return 1 - float((returns - values).var(unbiased=False)) / variance if variance > 1e-12 else None


def point_of(
    iteration: int,
    rollout: Rollout,
    rewards: Tensor,
    returns: Tensor,
    stats: UpdateStats,
    kl_coefficient: float,
    config: PPOConfig,
) -> PPOPoint:
    """The metrics of one iteration.

    Args:
        iteration: its number, from 0.
        rollout: B answers.
        rewards: (B,), without the KL penalty.
        returns: (B, T), targets of the values.
        stats: of the update.
        kl_coefficient: beta.
        config: hyperparameters.
    """
    mask = rollout.answer_mask
    kl_nats = float(kl_k1(rollout.logprobs, rollout.reference_logprobs, mask).mean())
    return PPOPoint(
        iteration=iteration + 1,
        reward=float(rewards.mean()),
        score=float(rollout.scores.mean()),
        eos_penalty=config.missing_eos_penalty * float((~rollout.ended).float().mean()),
        kl_penalty=kl_coefficient * kl_nats,
        kl_nats=kl_nats,
        kl_k3_nats=float(kl_k3(rollout.logprobs, rollout.reference_logprobs, mask).mean()),
        kl_coefficient=kl_coefficient,
        entropy_nats=float(masked_mean(rollout.entropies, mask)),
        answer_tokens=float(mask.sum(dim=1).float().mean()),
        ended_share=float(rollout.ended.float().mean()),
        distinct_1=distinct_share(rollout.tokens, mask, 1),
        distinct_2=distinct_share(rollout.tokens, mask, 2),
        repetition=repetition(rollout.tokens, mask),
        explained_variance=explained_variance(rollout.values[mask], returns[mask])
        if config.algorithm == "ppo"
        else None,
        **asdict(stats),
    )
