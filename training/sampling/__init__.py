"""Sampling answers from a model, and evaluating them with policy, reference and reward model."""

from training.sampling.rollouts import Rollout, answer_hidden, respond, score_samples, spread_out
from training.sampling.sampler import Sampler

__all__ = ["Rollout", "Sampler", "answer_hidden", "respond", "score_samples", "spread_out"]
