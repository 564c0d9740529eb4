"""Sampling answers from a model, and evaluating them with policy, reference and reward model."""

from training.sampling.reference import Reference
from training.sampling.rollouts import (
    Rollout,
    answer_hidden,
    reference_entropy,
    respond,
    score_samples,
    spread_out,
)
from training.sampling.sampler import Sampler, Samples

__all__ = [
    "Reference",
    "Rollout",
    "Sampler",
    "Samples",
    "answer_hidden",
    "reference_entropy",
    "respond",
    "score_samples",
    "spread_out",
]
