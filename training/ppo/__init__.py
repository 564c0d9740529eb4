"""Reinforcement learning of the policy against the reward model, kept near the base by a KL penalty."""

from training.ppo.report import PPOPoint, PPOReport
from training.ppo.train import PPOTrainer, train_ppo

__all__ = ["PPOPoint", "PPOReport", "PPOTrainer", "train_ppo"]
