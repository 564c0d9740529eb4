"""Answers sampled from a model, and what policy, reference and reward model say of them."""

from training.sampling.rollouts import Rollout, answer_hidden, respond, score_samples, spread_out
from training.sampling.sampler import Sampler

__all__ = ["Rollout", "Sampler", "answer_hidden", "respond", "score_samples", "spread_out"]
