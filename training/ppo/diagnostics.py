"""Metrics that show whether reinforcement learning is healthy.

Legend: B answers, T tokens of the longest answer, N real answer tokens.
"""

from __future__ import annotations

from dataclasses import asdict

from torch import Tensor

from training.config import PPOConfig
from training.evaluation import distinct_share, repetition, similarity
from training.objectives import kl_k1, kl_k3, masked_mean
from training.ppo.report import PPOPoint
from training.ppo.update import UpdateStats
from training.sampling import Rollout


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
        similarity=_similarity(rollout, config.answers),
        explained_variance=explained_variance(rollout.values[mask], returns[mask])
        if config.values_every_token
        else None,
        **asdict(stats),
    )


def _similarity(rollout: Rollout, answers: int) -> float | None:
    """How alike the first answers to different prompts are."""
    tokens, lengths = rollout.tokens[::answers].tolist(), rollout.answer_mask[::answers].sum(dim=1).tolist()
    return similarity([row[:length] for row, length in zip(tokens, lengths, strict=True)])
